//! From the PVH protocol, 32 bits without pages, to 64 bits with the first 4 GiB of memory as they are: there
//! are the program and the registers of its disk.

use core::arch::global_asm;

global_asm!(
    r#"
    // XEN_ELFNOTE_PHYS32_ENTRY
    .pushsection .note.pvh, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad begins_by_pvh
    .popsection

    .pushsection .bss.tables, "aw", @nobits
    .balign 4096
    top:
    .skip 4096
    gibibytes:
    .skip 4096
    directories:
    .skip 4 * 4096
    stack:
    .skip 16384
    stack_end:
    .popsection

    .pushsection .rodata.segments, "a"
    .balign 8
    segments:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
    segments_at:
    .word 23
    .long segments
    .popsection

    .pushsection .text.begins, "ax"
    .code32
    .global begins_by_pvh
    begins_by_pvh:
    cli
    cld
    // Also after a reset: what was there before is not zero.
    mov edi, offset top
    mov ecx, 2 * 1024
    xor eax, eax
    rep stosd
    mov eax, offset gibibytes
    or eax, 3
    mov edi, offset top
    mov dword ptr [edi], eax
    // Four directories, each of a GiB.
    mov eax, offset directories
    or eax, 3
    mov edi, offset gibibytes
    mov ecx, 4
    2:
    mov dword ptr [edi], eax
    add eax, 4096
    add edi, 8
    dec ecx
    jnz 2b
    // Pages of 2 MiB, present and writable.
    mov eax, 0x83
    mov edi, offset directories
    mov ecx, 2048
    3:
    mov dword ptr [edi], eax
    mov dword ptr [edi + 4], 0
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 3b
    // Physical address extension, the tables, long mode, paging.
    mov eax, cr4
    or eax, 0x20
    mov cr4, eax
    mov eax, offset top
    mov cr3, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, cr0
    or eax, 0x80000000
    mov cr0, eax
    mov eax, offset segments_at
    lgdt [eax]
    mov esp, offset stack_end
    push 8
    mov eax, offset begins_long
    push eax
    retf
    .code64
    begins_long:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov esp, offset stack_end
    call {runs}
    ud2
    .popsection
    "#,
    runs = sym super::runs
);
