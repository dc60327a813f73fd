/*
 * A guest that leaves for its VMM N times between two bytes on COM1, and then ends it by port 0xf4
 * (debug-exit): by reading COM1's scratch register, or with MMIO defined by reading that address. A 32-bit ELF
 * for PVH. With FLAT defined it is real-mode code that ends by the keyboard controller's reset line, for kvmtool, which
 * loads no ELF and has no debug-exit.
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
        mov     $'<', %al
        out     %al, %dx
        mov     $N, %ecx
#ifdef MMIO
1:      mov     MMIO, %eax
#else
        mov     $0x3ff, %dx
1:      in      %dx, %al
#endif
        dec     %ecx
        jnz     1b
        mov     $0x3f8, %dx
        mov     $'>', %al
        out     %al, %dx
#ifdef FLAT
        mov     $0xfe, %al
        out     %al, $0x64
#endif
        xor     %eax, %eax
        mov     $0xf4, %dx
        out     %al, %dx
2:      cli
        hlt
        jmp     2b
