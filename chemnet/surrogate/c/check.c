/*
 * Does this build of chemnet_step compute what chemnet does? check.txt holds cells and chemnet's answers: the number of
 * cells and of species, then for each cell its status, T, p, Y before the step and T, Y after it.
 *
 * Prints how far the changes of T and of each Y are from chemnet's, in shares of the largest change of that quantity.
 * Both networks are computed in single precision, which leaves some 1e-5 in gas that burns, and up to 1e-3 in such
 * mixtures of anything as these. Exits with 1 if more than TOLERANCE is left, or a status differs.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chemnet_step.h"

#define TOLERANCE 1e-2
#define LEAST_CHANGE 1e-12 /* smaller ones are round-off */

struct cases {
    size_t n, n_species;
    int *expected;          /* statuses */
    double *T, *p, *Y;      /* before the step */
    double *T_next, *Y_next; /* after it */
};

static double *numbers(size_t n)
{
    double *memory = malloc(n * sizeof *memory);
    if (memory == NULL) {
        fprintf(stderr, "no memory\n");
        exit(2);
    }
    return memory;
}

static int read_row(FILE *file, double *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fscanf(file, "%lf", &values[i]) != 1)
            return -1;
    return 0;
}

static int read_cases(const char *path, struct cases *cases)
{
    FILE *file = fopen(path, "r");
    unsigned long n, n_species;
    int failed = file == NULL || fscanf(file, "%lu %lu", &n, &n_species) != 2;
    if (!failed) {
        size_t K = n_species;
        cases->n = n;
        cases->n_species = K;
        cases->T = numbers(n);
        cases->p = numbers(n);
        cases->Y = numbers(n * K);
        cases->T_next = numbers(n);
        cases->Y_next = numbers(n * K);
        cases->expected = malloc(n * sizeof *cases->expected);
        for (size_t i = 0; i < n && !failed; i++)
            failed = cases->expected == NULL || fscanf(file, "%d", &cases->expected[i]) != 1 ||
                     read_row(file, &cases->T[i], 1) != 0 || read_row(file, &cases->p[i], 1) != 0 ||
                     read_row(file, cases->Y + i * K, K) != 0 || read_row(file, &cases->T_next[i], 1) != 0 ||
                     read_row(file, cases->Y_next + i * K, K) != 0;
    }
    if (file != NULL)
        fclose(file);
    return failed ? -1 : 0;
}

/* Largest difference from chemnet in one column of values, in shares of its largest change. */
static double worst(const struct cases *cases, const double *before, const double *after, const double *expected,
                    size_t stride)
{
    double change = LEAST_CHANGE, difference = 0.0;
    for (size_t i = 0; i < cases->n; i++)
        if (cases->expected[i] == CHEMNET_OK) {
            change = fmax(change, fabs(expected[i * stride] - before[i * stride]));
            difference = fmax(difference, fabs(after[i * stride] - expected[i * stride]));
        }
    return difference / change;
}

static int compare(const chemnet_model *model, const struct cases *cases)
{
    size_t n = cases->n, K = cases->n_species, wrong = 0, worst_species = 0;
    double *T = numbers(n), *Y = numbers(n * K), largest = 0.0;
    int *status = malloc(n * sizeof *status);
    memcpy(T, cases->T, n * sizeof *T);
    memcpy(Y, cases->Y, n * K * sizeof *Y);
    size_t left = status == NULL ? n : chemnet_step(model, n, T, cases->p, Y, status);
    for (size_t i = 0; status != NULL && i < n; i++)
        if (status[i] != cases->expected[i]) {
            printf("cell %lu: status %d (%s), chemnet has %d\n", (unsigned long)i, status[i],
                   chemnet_status_text(status[i]), cases->expected[i]);
            wrong++;
        }
    for (size_t k = 0; k < K; k++) {
        double share = worst(cases, cases->Y + k, Y + k, cases->Y_next + k, K);
        if (share > largest) {
            largest = share;
            worst_species = k;
        }
    }
    double share_of_T = worst(cases, cases->T, T, cases->T_next, 1);
    printf("%s, %lu species, dt = %g s, by chemnet %s\n", chemnet_mechanism(model), (unsigned long)K,
           chemnet_dt(model), chemnet_version(model));
    printf("%lu cells, %lu left to an integrator, %lu statuses differ\n", (unsigned long)n, (unsigned long)left,
           (unsigned long)wrong);
    printf("largest difference in shares of the largest change: T %.1e, Y %.1e (%s)\n", share_of_T, largest,
           chemnet_species_name(model, worst_species));
    free(T);
    free(Y);
    free(status);
    return wrong == 0 && share_of_T <= TOLERANCE && largest <= TOLERANCE ? 0 : 1;
}

int main(void)
{
    char message[256];
    struct cases cases = {0, 0, NULL, NULL, NULL, NULL, NULL, NULL};
    chemnet_model *model = chemnet_load("model.bin", message, sizeof message);
    int failed = 1;
    if (model == NULL)
        fprintf(stderr, "%s\n", message);
    else if (read_cases("check.txt", &cases) != 0 || cases.n_species != chemnet_n_species(model))
        fprintf(stderr, "check.txt cannot be read, or belongs to another model\n");
    else
        failed = compare(model, &cases);
    chemnet_free(model);
    free(cases.expected);
    free(cases.T);
    free(cases.p);
    free(cases.Y);
    free(cases.T_next);
    free(cases.Y_next);
    return failed;
}
