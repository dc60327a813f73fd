/*
 * A guest for tests of the monitor (multiboot, 32-bit): says "H" on COM1 and waits, with interrupts
 * off, for the first byte from there. 't' makes a triple fault, 'o' powers off by ACPI's register,
 * 'w' starts the watchdog, whose window is the second, with 0.5 s, 'W' has it shut down first, 's' stops
 * it; all else is said again, and those three are as well.
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
    cmp $'w', %al
    je 4f
    cmp $'W', %al
    je 5f
    cmp $'s', %al
    je 6f
7:
    out %al, %dx
    jmp 1b
2:  lidt idt
    int3
3:  mov $0x600, %dx
    mov $0x34, %al
    out %al, %dx
    jmp 1b
5:  movl $1, 0xd0001010     /* EXPIRY: shutdown */
4:  movl $5, 0xd0001004     /* COUNT */
    movl $1, 0xd000100c     /* CONTROL: run */
    jmp 7b
6:  movl $0, 0xd000100c
    jmp 7b
    .align 4
idt: .word 0
    .long 0
