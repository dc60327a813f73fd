/* What other VPs begin with, copied to 0x8000: from real mode to C, with a stack of their own. */
    .data
    .balign 16
    .globl ap_start, ap_end
    .code16
ap_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + ap_gdt_pointer - ap_start
    mov $0x6a0, %eax
    mov %eax, %cr4
    mov $pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax
    wrmsr
    mov $0x80010023, %eax
    mov %eax, %cr0
    ljmpl $0x08, $0x8000 + ap_64 - ap_start
    .code64
ap_64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $1, %edi
    lock xadd %edi, ap_next
    mov %edi, %eax
    shl $12, %rax
    lea ap_stacks(%rax), %rsp
    mov $ap_main, %eax
    call *%rax
    hlt
    .balign 8
ap_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
ap_gdt_pointer:
    .word . - ap_gdt - 1
    .long 0x8000 + ap_gdt - ap_start
ap_end:

    .balign 4
ap_next:
    .long 1
    .bss
    .balign 4096
ap_stacks:
    .skip 65 * 4096
