/* From a multiboot loader to 32-bit C without paging, and the trap stubs. */
    .section .multiboot, "ax"
    .long 0x1badb002, 0, -0x1badb002

    .text
    .globl start
start:
    cli
    cld
    mov %ebx, multiboot_info
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $stack_top, %esp
    fninit
    call runtime32_init
    call guest_main
    call finish

    .altmacro
    .macro stub n
    .align 16
    .if (\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17)
    nop
    nop
    .else
    push $0
    .endif
    push $\n
    jmp trap_common
    .endm

    .align 16
    .globl trap_stubs
trap_stubs:
    .set i, 0
    .rept 256
    stub %i
    .set i, i + 1
    .endr

trap_common:
    push %eax
    push %ecx
    push %edx
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov %ds, %esi       /* tests leave anything in them */
    mov %es, %edi
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %esp, %eax
    push %esi
    push %edi
    push %eax
    cld
    call on_trap
    add $4, %esp
    pop %edi
    pop %esi
    cmpl $0, keep_segments
    je 1f
    mov %edi, %es
    mov %esi, %ds
1:  pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    pop %edx
    pop %ecx
    pop %eax
    add $8, %esp
    iret

    .data
    .align 16
    .globl gdt
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code */
    .quad 0x00cf93000000ffff    /* 10 data */
    .quad 0x00009b000000ffff    /* 18 code 16 */
    .quad 0x000093000000ffff    /* 20 data 16 */
    .quad 0x00cffb000000ffff    /* 28 user code */
    .quad 0x00cff3000000ffff    /* 30 user data */
    .fill 25, 8, 0              /* 38 TSS; 40 … for tests */
gdt_pointer:
    .word . - gdt - 1
    .long gdt
    .globl keep_segments
keep_segments:
    .long 0

    .bss
    .align 4096
stack:
    .skip 65536
stack_top:
