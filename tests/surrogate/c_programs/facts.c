/* The facts of the model of the command line, one a line, and what chemnet_check says of wrong time steps and species. */
#include <stdio.h>
#include <stdlib.h>

#include "chemnet_step.h"

int main(int argc, char **argv)
{
    char message[256] = "";
    chemnet_model *model = argc == 2 ? chemnet_load(argv[1], message, sizeof message) : NULL;
    if (model == NULL)
        return 1;
    size_t K = chemnet_n_species(model);
    const char **names = malloc(K * sizeof *names);
    if (names == NULL)
        return 1;
    for (size_t k = 0; k < K; k++)
        names[k] = chemnet_species_name(model, k);
    double dt = chemnet_dt(model);
    printf("%s\n%s\n%s\n%s\n%.17g\n", chemnet_version(model), chemnet_mechanism(model),
           chemnet_mechanism_sha256(model), chemnet_sha256(model), dt);
    printf("%.17g %.17g %d %d\n", chemnet_cold_limit(model), chemnet_calm_limit(model), (int)chemnet_order(model),
           chemnet_heating_is_checked(model));
    for (size_t k = 0; k < K; k++)
        printf("%s%s", names[k], k + 1 < K ? " " : "\n");
    printf("%ld %ld %d\n", chemnet_species_index(model, names[K - 1]), chemnet_species_index(model, "Xx"),
           chemnet_species_name(model, K) == NULL);
    printf("%d\n", chemnet_check(model, dt, K, names, message, sizeof message));
    chemnet_check(model, 2.0 * dt, K, names, message, sizeof message);
    printf("%s\n", message);
    chemnet_check(model, dt, K - 1, names, message, sizeof message);
    printf("%s\n", message);
    const char *first = names[0];
    names[0] = names[1];
    names[1] = first;
    chemnet_check(model, dt, K, names, message, sizeof message);
    printf("%s\n", message);
    printf("%d %d %d\n", chemnet_heating_agrees(model, dt, 1500.0, 1500.0 + 50.0, 45.0 / dt, 55.0 / dt),
           chemnet_heating_agrees(model, dt, 1500.0, 1500.0 + 50.0, 40.0 / dt, 44.0 / dt),
           chemnet_heating_agrees(model, dt, 1500.0, 1500.4, 0.0, 0.0));
    free(names);
    chemnet_free(model);
    return 0;
}
