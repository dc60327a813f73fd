/*
 * Into cpu-guest.c's guest_main() from PVH's entry (x86/HVM direct boot: flat 32-bit segments, no
 * paging): long mode, the first GiB mapped one to one by 2 MiB pages, SSE on, no interrupts.
 */
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 4, 18        /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   _start

        .text
        .code32
        .globl  _start
_start:
        cli
        cld
        mov     $pml4, %edi     /* .bss need not be zero on all loaders */
        xor     %eax, %eax
        mov     $(3 * 4096 / 4), %ecx
        rep stosl
        movl    $(pdpt + 3), pml4
        movl    $(pd + 3), pdpt
        mov     $0x83, %eax     /* present, writable, large */
        xor     %ecx, %ecx
1:      mov     %eax, pd(, %ecx, 8)
        add     $0x200000, %eax
        inc     %ecx
        cmp     $512, %ecx
        jne     1b
        mov     %cr4, %eax
        or      $0x620, %eax    /* PAE, OSFXSR, OSXMMEXCPT */
        mov     %eax, %cr4
        mov     $pml4, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx /* EFER.LME */
        rdmsr
        or      $0x100, %eax
        wrmsr
        mov     $0x80010033, %eax /* PG, WP, NE, ET, MP, PE; neither EM nor TS */
        mov     %eax, %cr0
        lgdt    gdt_register
        ljmp    $8, $2f
        .code64
2:      mov     $16, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     $stack_end, %esp
        call    guest_main
        lidt    no_idt          /* a triple fault ends the machine */
        ud2

        .section .rodata
        .balign 8
gdt:    .quad   0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdt_register:
        .word   . - gdt - 1
        .long   gdt
        .balign 8
no_idt: .word   0
        .quad   0

        .bss
        .balign 4096
pml4:   .fill   4096
pdpt:   .fill   4096
pd:     .fill   4096
        .fill   16384
        .balign 16
stack_end:
        .section .note.GNU-stack, "", @progbits
