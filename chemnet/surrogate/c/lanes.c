/*
 * Cells are computed side by side: LANES of them fill one register of floats, and CELLS = 2 LANES of them, a tile, go
 * through the network together. Loops over lanes have no branches, so that compilers turn them into instructions for
 * all lanes, and a cell's result does not depend on its lane.
 *
 * Compilers without vector types, and with -DCHEMNET_SCALAR all, compute one lane at a time.
 */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chemnet_step.h"

#if !defined(__GNUC__) || defined(CHEMNET_SCALAR)
#define LANES 1
#define PARTS 1
typedef float lanes;
typedef double part;
#else
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define PARTS 2 /* registers that LANES doubles fill */
typedef float lanes __attribute__((vector_size(4 * LANES), may_alias));
typedef double part __attribute__((vector_size(4 * LANES), aligned(8), may_alias)); /* of any array of doubles */
#endif

#define GROUPS 2 /* of LANES cells in a tile: with two, each weight that is loaded is used twice */
#define CELLS (GROUPS * LANES)
#define PANEL 6      /* neurons that are computed together: 12 sums of lanes stay in registers */
#define ALIGNMENT 64 /* bytes of a line of the cache */

/* One number of each cell of a group. (C99 lets no pointer to it become one to const, so kernels go without const.) */
typedef double cells[LANES];

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t rounded_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

