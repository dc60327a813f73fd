/*
 * Loops for measuring a CPU: flat, position-independent 64-bit code, the same bytes natively, in the
 * software CPU and in other emulators. Each is f(rdi = iterations, rsi = buffer of 32 MiB), clobbers
 * what a C function may, and returns a checksum in rax. cpu_loops (at the end) lists name, offset
 * and instructions an iteration; it holds no addresses, so nothing needs relocation.
 */
        .text
        .balign 64
        .globl  cpu_loops_begin
cpu_loops_begin:

/* A mix of dependent and independent integer work: 16 instructions. */
integer_mix:
        mov     $0x9e3779b97f4a7c15, %rcx
        mov     %rdi, %rax
        xor     %edx, %edx
        mov     $1, %r8d
1:      lea     (%rax,%rcx), %r9
        imul    %rcx, %rax
        mov     %r9, %r10
        shr     $29, %r10
        xor     %r10, %rax
        add     %r8, %rdx
        and     $0xffff, %r9d
        sub     %r9, %rdx
        lea     1(%r8,%r8,2), %r8
        mov     %edx, %r11d
        or      $3, %r11d
        rol     $7, %rax
        add     %r11, %rax
        neg     %r10
        dec     %rdi
        jnz     1b
        ret

/* A coin toss decides each branch: 15 instructions on average. */
        .balign 64
branches:
        mov     $88172645463325252, %rax
        xor     %edx, %edx
1:      mov     %rax, %rcx
        shl     $13, %rcx
        xor     %rcx, %rax
        mov     %rax, %rcx
        shr     $7, %rcx
        xor     %rcx, %rax
        mov     %rax, %rcx
        shl     $17, %rcx
        xor     %rcx, %rax
        test    $0x1000, %eax
        jz      2f
        add     $3, %rdx
        xor     %rax, %rdx
2:      test    $0x80000, %eax
        jnz     3f
        inc     %rdx
        sub     %rax, %rdx
3:      dec     %rdi
        jnz     1b
        mov     %rdx, %rax
        ret

/* Copies 32 bytes an iteration, over 16 KiB. 12 instructions. */
        .balign 64
copy:
        xor     %ecx, %ecx
1:      mov     (%rsi,%rcx), %rax
        mov     8(%rsi,%rcx), %rdx
        mov     16(%rsi,%rcx), %r8
        mov     24(%rsi,%rcx), %r9
        mov     %rax, 0x8000(%rsi,%rcx)
        mov     %rdx, 0x8008(%rsi,%rcx)
        mov     %r8, 0x8010(%rsi,%rcx)
        mov     %r9, 0x8018(%rsi,%rcx)
        add     $32, %ecx
        and     $0x3fe0, %ecx
        dec     %rdi
        jnz     1b
        ret

/* Two calls deep, with a frame. 14 instructions. */
        .balign 64
calls:
        xor     %eax, %eax
1:      call    4f
        dec     %rdi
        jnz     1b
        ret
        .balign 16
4:      push    %rbx
        mov     %rdi, %rbx
        call    5f
        add     %rbx, %rax
        pop     %rbx
        ret
        .balign 16
5:      push    %rbp
        mov     %rsp, %rbp
        lea     1(%rax), %rax
        pop     %rbp
        ret

/* Packed and scalar floating point and integers. 11 instructions. */
        .balign 64
sse:
        mov     $0x3ff0000000000000, %rax
        movq    %rax, %xmm0
        movapd  %xmm0, %xmm1
        unpcklpd %xmm0, %xmm0
        movapd  %xmm0, %xmm2
        pxor    %xmm3, %xmm3
1:      movaps  (%rsi), %xmm4
        addpd   %xmm0, %xmm2
        mulsd   %xmm1, %xmm1
        addsd   %xmm0, %xmm1
        paddd   %xmm4, %xmm3
        pshufd  $0x1b, %xmm3, %xmm5
        pxor    %xmm5, %xmm3
        sqrtsd  %xmm1, %xmm1
        movaps  %xmm3, 16(%rsi)
        dec     %rdi
        jnz     1b
        movq    %xmm3, %rax
        ret

/* Loads at random places of 16 MiB. 11 instructions. */
        .balign 64
random_loads:
        mov     $88172645463325252, %rcx
        xor     %eax, %eax
1:      mov     %rcx, %rdx
        shl     $13, %rdx
        xor     %rdx, %rcx
        mov     %rcx, %rdx
        shr     $7, %rdx
        xor     %rdx, %rcx
        mov     %ecx, %edx
        and     $0xfffff8, %edx
        add     (%rsi,%rdx), %rax
        dec     %rdi
        jnz     1b
        ret

/* 64 KiB an iteration; counted in bytes. */
        .balign 64
rep_movsb:
        mov     %rsi, %rdx
1:      mov     %rdx, %rsi
        lea     0x100000(%rdx), %rdi
        mov     $0x10000, %ecx
        rep movsb
        dec     %rax
        jnz     1b
        ret
rep_movsb_entry:
        mov     %rdi, %rax
        jmp     rep_movsb

        .balign 64
        .globl  cpu_loops
cpu_loops:
        .macro  loop name, entry, insns, bytes
        .long   \entry - cpu_loops_begin, \insns, \bytes, 0
9:      .ascii  "\name"
        .fill   32 - (. - 9b), 1, 0
        .endm
        loop    "integer mix", integer_mix, 16, 0
        loop    "unpredictable branches", branches, 15, 0
        loop    "load/store copy", copy, 12, 0
        loop    "call/ret", calls, 14, 0
        loop    "SSE", sse, 11, 0
        loop    "random loads, 16 MiB", random_loads, 11, 0
        loop    "rep movsb", rep_movsb_entry, 0, 0x10000
        .long   0, 0, 0, 0
        .globl  cpu_loops_end
cpu_loops_end:
        .section .note.GNU-stack, "", @progbits
