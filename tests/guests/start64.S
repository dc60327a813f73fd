/* From a multiboot loader's 32-bit protected mode to 64-bit C, and the trap stubs. */
#define USER_CODE (0x30 | 3)
#define USER_DATA (0x28 | 3)

    .section .multiboot, "ax"
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl start
start:
    cli
    cld
    mov %ebx, multiboot_info
    mov $stack_top, %esp

    /* PML4[0]: one to one, supervisor. PML4[1]: the same for users. 4 GiB in 2 MiB pages. */
    mov $pd, %edi
    mov $pd_user, %esi
    mov $0x083, %eax
    xor %edx, %edx
    mov $2048, %ecx
1:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    mov %eax, (%esi)
    orl $4, (%esi)
    mov %edx, 4(%esi)
    add $8, %edi
    add $8, %esi
    add $0x200000, %eax
    loop 1b
    mov $pd + 3, %eax
    mov $pdpt, %edi
    call four_entries
    mov $pd_user + 7, %eax
    mov $pdpt_user, %edi
    call four_entries
    movl $pdpt + 3, pml4
    movl $pdpt_user + 7, pml4 + 8

    mov $pml4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x6a0, %eax         /* PAE, PGE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax         /* SCE, LME, NXE */
    wrmsr
    mov %cr0, %eax
    and $~0x4, %eax         /* no EM */
    or $0x80010022, %eax    /* PG, WP, NE, MP */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $0x08, $start64

four_entries:
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $8, %edi
    add $4096, %eax
    loop 1b
    ret

    .code64
start64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    fninit
    call runtime64_init
    call guest_main
    call finish

/* ---- traps ---- */

    .altmacro
    .macro stub n
    .align 16
    .if (\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17) || (\n == 21)
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
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    cld
    call on_trap
    mov %rbx, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

/* ---- CPL 3 ---- */

/* uint64_t enter_user(fn, arg, stack): comes back through vector 0x81. */
    .globl enter_user
enter_user:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, kernel_rsp(%rip)
    mov %rdi, %rax
    mov %rsi, %rdi
    push $USER_DATA
    push %rdx
    push $0x2
    push $USER_CODE
    lea user_stub(%rip), %rcx
    mov $0x8000000000, %rdx
    or %rdx, %rcx
    push %rcx
    iretq
user_stub:
    call *%rax
    int $0x81

    .globl leave_user
leave_user:
    mov %rdi, %rax
    mov kernel_rsp(%rip), %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .data
    .align 16
    .globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    /* 08 code 64 */
    .quad 0x00cf93000000ffff    /* 10 data */
    .quad 0
    .quad 0x00cffb000000ffff    /* 20 user code 32 */
    .quad 0x00cff3000000ffff    /* 28 user data */
    .quad 0x00affb000000ffff    /* 30 user code 64 */
    .quad 0x00cf9b000000ffff    /* 38 code 32 */
    .quad 0x00009b000000ffff    /* 40 code 16 */
    .quad 0x000093000000ffff    /* 48 data 16 */
    .quad 0, 0                  /* 50 TSS */
    .fill 8, 8, 0               /* 60 spare */
    .quad 0x00af9b000000ffff    /* a0 SYSENTER: code 64, data, user 32, data, user 64, data */
    .quad 0x00cf93000000ffff
    .quad 0x00cffb000000ffff
    .quad 0x00cff3000000ffff
    .quad 0x00affb000000ffff
    .quad 0x00cff3000000ffff
    .fill 6, 8, 0
gdt_pointer:
    .word . - gdt - 1
    .quad gdt
    .globl kernel_rsp
kernel_rsp:
    .quad 0

    .bss
    .align 4096
    .globl pml4
pml4:
    .skip 4096
pdpt:
    .skip 4096
pdpt_user:
    .skip 4096
pd:
    .skip 4 * 4096
pd_user:
    .skip 4 * 4096
stack:
    .skip 65536
stack_top:
