/* What one core can do, for limits.py: multiply-adds from registers, scalar loads from the L1 cache. */
#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));

/* Enough independent sums to hide the latency of every multiply-add unit. */
#define SUMS 12

/* Multiply-adds done in `rounds` rounds. */
uint64_t multiply_adds(uint64_t rounds)
{
    vec sums[SUMS] = {0}, x = {1.0f}, y = {0.5f};
    for (uint64_t round = 0; round < rounds; round++)
        for (int i = 0; i < SUMS; i++) {
            sums[i] = x * y + sums[i];
            /* Keeps the compiler from folding the rounds into one product. */
            __asm__ volatile("" : "+x"(sums[i]));
        }
    return rounds * SUMS * LANES;
}

/* Loads of 4 bytes done in `rounds` rounds over a table of 16 KiB. */
uint64_t l1_loads(uint64_t rounds)
{
    static float table[4096];
    for (uint64_t round = 0; round < rounds; round++)
        for (int i = 0; i < 4096; i += 8)
            for (int j = 0; j < 8; j++) {
                float loaded;
                __asm__ volatile("movss %1, %0" : "=x"(loaded) : "m"(table[i + j]));
            }
    return rounds * 4096;
}
