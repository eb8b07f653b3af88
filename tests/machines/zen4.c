/* To be preloaded: the instruction CPUID answers as on an AMD processor of the Zen 4 generation.
 *
 * Libraries choose their code by what CPUID says, and MKL takes its generic path where the maker is
 * not Intel. Linux lets a process trap the instruction where the processor can (`cpuid_fault` in
 * /proc/cpuinfo, arch_prctl(2)); the handler asks the processor itself, and changes the maker, the
 * model, and what Zen 4 has not: AMX, AVX-VNNI, AVX-512 in 16 bits. Where it cannot be trapped, a
 * process ends with status 77 before it begins.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define CANNOT_TRAP 77
#define EXTENDED 0x80000000
#define CACHES 0x8000001d /* AMD's leaf, which tells what Intel's leaf 4 tells */
#define BIT(n) (1u << (n))

static int permit(int is_permitted)
{
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, is_permitted);
}

static void answer(int signal_number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;

    if (info->si_code != SI_KERNEL || code[0] != 0x0f || code[1] != 0xa2) {
        signal(signal_number, SIG_DFL); /* a fault of the program's own: it comes again */
        return;
    }
    permit(1);
    __cpuid_count(leaf == CACHES ? 4 : leaf, part, a, b, c, d);
    permit(0);
    if (leaf == EXTENDED)
        a = CACHES;
    if (leaf > EXTENDED + 8 && leaf != CACHES) {
        a = b = c = d = 0;
    } else if (leaf == 0 || leaf == EXTENDED) {
        memcpy(&b, "Auth", 4);
        memcpy(&d, "enti", 4);
        memcpy(&c, "cAMD", 4);
    } else if (leaf == 1) {
        a = 0x00a10f11; /* family 25, model 17 */
    } else if (leaf == EXTENDED + 1) {
        c |= BIT(22); /* there is a leaf on caches */
    } else if (leaf == 7 && part == 0) {
        d &= ~(BIT(22) | BIT(23) | BIT(24) | BIT(25)); /* AMX, and AVX-512 FP16 */
    } else if (leaf == 7 && part == 1) {
        a &= ~(BIT(4) | BIT(21) | BIT(23)); /* AVX-VNNI, AMX in 16 bits, AVX-IFMA */
    }
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void)
{
    struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};

    sigaction(SIGSEGV, &action, NULL);
    if (permit(0))
        _exit(CANNOT_TRAP);
}
