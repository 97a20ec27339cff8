/* A solver whose floating-point exceptions trap steps cells of which one is NaN; prints their statuses. */
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <stdio.h>

#include "chemnet_step.h"

#define MOST_SPECIES 200

int main(int argc, char **argv)
{
    static double Y[3 * MOST_SPECIES];
    char message[256];
    double T[3] = {1500.0, 0.0, 1500.0}, p[3] = {101325.0, 101325.0, 101325.0};
    int status[3];
    chemnet_model *model = argc == 2 ? chemnet_load(argv[1], message, sizeof message) : NULL;
    if (model == NULL || chemnet_n_species(model) > MOST_SPECIES)
        return 1;
    T[1] = NAN;
    Y[0] = Y[chemnet_n_species(model)] = Y[2 * chemnet_n_species(model)] = 1.0;
    int traps = FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW;
    feenableexcept(traps);
    size_t left = chemnet_step(model, 3, T, p, Y, status);
    printf("%lu %d %d %d %d\n", (unsigned long)left, status[0], status[1], status[2], (fegetexcept() & traps) == traps);
    chemnet_free(model);
    return 0;
}
