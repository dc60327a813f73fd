/*
 * The smallest guest: one byte to COM1, then it halts for good. A 32-bit ELF for PVH (x86/HVM direct
 * boot: the note holds the entry point, flat 32-bit segments, no paging). With FLAT defined it is real-mode
 * code, for kvmtool, which loads no ELF.
 */
#ifdef FLAT
        .code16
#endif
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 4, 18        /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .long   _start
        .text
        .globl  _start
_start:
        mov     $0x3f8, %dx
        mov     $'!', %al
        out     %al, %dx
        cli
1:      hlt
        jmp     1b
