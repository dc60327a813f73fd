/*
 * A guest for tests of the monitor (multiboot, 32-bit): says "H" on COM1 and waits, with interrupts
 * off, for the first byte from there. 't' makes a triple fault, 'o' powers off by ACPI's register;
 * all else is said again.
 */
    .text
    .align 4
    .long 0x1badb002, 0, -0x1badb002
    .globl _start
_start:
    mov $0x3f8, %dx
    mov $'H', %al
    out %al, %dx
1:  mov $0x3fd, %dx
    in %dx, %al
    test $1, %al
    jz 1b
    mov $0x3f8, %dx
    in %dx, %al
    cmp $'t', %al
    je 2f
    cmp $'o', %al
    je 3f
    out %al, %dx
    jmp 1b
2:  lidt idt
    int3
3:  mov $0x600, %dx
    mov $0x34, %al
    out %al, %dx
    jmp 1b
    .align 4
idt: .word 0
    .long 0
