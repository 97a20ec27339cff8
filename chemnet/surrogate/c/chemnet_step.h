/*
 * chemnet_step: one time step of a gas's chemistry by a network, at constant pressure and enthalpy.
 *
 *     char message[256];
 *     chemnet_model *model = chemnet_load("model.bin", message, sizeof message);
 *     size_t left = chemnet_step(model, n, T, p, Y, status);
 *     if (left > 0)
 *         integrate the cells i with status[i] != CHEMNET_OK by your own integrator
 *
 * A model belongs to one mechanism, one order of species and one time step: see chemnet_check. Once loaded it is
 * never changed, and any number of threads may use it at the same time. A call allocates nothing; it takes
 * chemnet_stack_bytes(model) of the stack of its thread.
 */
#ifndef CHEMNET_STEP_H
#define CHEMNET_STEP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct chemnet_model chemnet_model;

/* Outcome of a step for one cell; the numbers are those of chemnet.Status in Python. */
enum chemnet_status {
    CHEMNET_OK = 0,      /* the step was taken; every other cell is as it was */
    CHEMNET_FAILED = 2,  /* the network's answer could not be closed: integrate it */
    CHEMNET_INVALID = 3, /* no state of a gas: not finite, T or p beyond all bounds, Y < 0 or their sum not 1 */
    CHEMNET_OUTSIDE = 4, /* outside the domain of the training data: integrate it */
    CHEMNET_SLOW = 5     /* too cold or too calm for a network: integrate it, at loose tolerances */
};

/* What chemnet's own hybrid step asks first, and with which it was validated; see chemnet_order. */
enum chemnet_order {
    CHEMNET_NETWORK_FIRST = 0,   /* the network, then the integrator for the cells that it leaves */
    CHEMNET_CALM_GAS_FIRST = 1,  /* calm gas goes to one step of the integrator before the network is asked */
    CHEMNET_NEARLY_ALL_FIRST = 2 /* nearly all gas does, and the network takes what that step does not */
};

/*
 * The model of a file, or of the n_bytes of one that lie in memory (one process may read it and send it to the
 * others). NULL where that is no model, damaged, incomplete or of a newer format, and the reason in message, which
 * holds up to size characters. chemnet_free takes NULL too.
 */
chemnet_model *chemnet_load(const char *path, char *message, size_t size);
chemnet_model *chemnet_read(const void *bytes, size_t n_bytes, char *message, size_t size);
void chemnet_free(chemnet_model *model);

/*
 * 0 if the model advances by dt [s] and its species are these, in this order; else -1 and the reason in message.
 */
int chemnet_check(const chemnet_model *model, double dt, size_t n_species, const char *const *species,
                  char *message, size_t size);

/*
 * Advance n cells by the model's dt: T [K] (n), p [Pa] (n), mass fractions Y (n rows of n_species each).
 *
 * T and Y of the cells whose status is CHEMNET_OK are changed in place: elements to round-off, T from the enthalpy.
 * The others keep theirs. A cell's result does not depend on the other cells of the call. The arrays do not overlap.
 * Returns the number of cells whose status is not CHEMNET_OK.
 */
size_t chemnet_step(const chemnet_model *model, size_t n, double *T, const double *p, double *Y, int *status);

/*
 * 1 if a step from T to T_next [K] over dt [s] agrees with dT/dt by the reactions [K/s] at its two ends, else 0: its
 * mean, within a tenth of the larger of both and half a kelvin. chemnet's hybrid step asks this about the answers of
 * models for which chemnet_heating_is_checked is 1, and integrates the cells that do not agree.
 */
int chemnet_heating_agrees(const chemnet_model *model, double dt, double T, double T_next, double heating,
                           double heating_next);

/* Facts of a model. Texts live as long as the model. */
const char *chemnet_version(const chemnet_model *model);          /* of the chemnet that wrote the file */
const char *chemnet_sha256(const chemnet_model *model);           /* of the content of the model's file */
const char *chemnet_mechanism(const chemnet_model *model);        /* name or file */
const char *chemnet_mechanism_sha256(const chemnet_model *model); /* of its content */
double chemnet_dt(const chemnet_model *model);                    /* time step [s] */
double chemnet_cold_limit(const chemnet_model *model);            /* [K]; colder gas is CHEMNET_SLOW */
double chemnet_calm_limit(const chemnet_model *model);            /* of the typical change of Y^(1/8), likewise */
size_t chemnet_n_species(const chemnet_model *model);
const char *chemnet_species_name(const chemnet_model *model, size_t k); /* NULL where there is no such k */
long chemnet_species_index(const chemnet_model *model, const char *name); /* -1 where there is no such species */
enum chemnet_order chemnet_order(const chemnet_model *model);
int chemnet_heating_is_checked(const chemnet_model *model);
size_t chemnet_stack_bytes(const chemnet_model *model); /* of a call of chemnet_step */
const char *chemnet_status_text(int status);            /* what a status means, in a sentence */

#ifdef __cplusplus
}
#endif

#endif
