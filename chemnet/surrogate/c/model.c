/* A model: what it holds, and its facts. */
#define DIGEST 32 /* bytes of a SHA-256 */

enum activation { RELU, GELU, SILU, TANH };

/* One layer of the network; weights in panels of PANEL neurons, of which those of one input lie side by side. */
struct layer {
    size_t n_in, n_out;
    const float *weights; /* (panels, n_in, PANEL) */
    const float *bias;    /* (panels, PANEL) */
};

/* K species, C = 2 + K columns [T, p, Y], m reactive species, E elements, D bounded sums. */
struct chemnet_model {
    const char *version, *mechanism, *mechanism_sha256;
    char sha256[2 * DIGEST + 1]; /* of the file's content */
    const char **species; /* (K) */
    double dt;            /* [s] */

    /* which states the network takes */
    double cold_limit, calm_limit;
    float calm_answer;                     /* the network's answers for calm gas are smaller */
    double T_min, T_max, least_Y, sum_off; /* of valid states: [K], [K], smallest Y, largest |sum of Y - 1| */
    const double *low, *high;              /* (C) bounds of T, p and Y */
    size_t n_sums;                         /* D */
    const double *directions;              /* (D, 1 + K) factors of h and Y in sums that are bounded */
    const double *bounds;                  /* (D, 2) */

    /* what a hybrid step has to know */
    enum chemnet_order order;
    int heating_is_checked;
    double heating_share, heating_least;

    /* transform */
    const double *mean, *gain; /* (C) inputs of the network are (values - mean) gain */
    const double *scale;       /* (C) of its answers */
    int power;                 /* a change is sign(v) |v|^power of the answer v */

    /* gas */
    size_t n_species, n_reactive, n_elements;
    const size_t *reactive; /* (m) */
    const double *elements; /* (E, m) mass of an element in a kilogram of a species */
    size_t nasa_width;
    const double *nasa; /* (K, width) thermodynamic polynomials */

    /* network */
    enum activation activation;
    size_t n_layers;
    const struct layer *layers;

    size_t stack_bytes;
    size_t n_owned;
    void **owned; /* memory to free */
};

void chemnet_free(chemnet_model *model)
{
    if (model == NULL)
        return;
    for (size_t i = 0; i < model->n_owned; i++)
        free(model->owned[i]);
    free(model->owned);
    free(model);
}

const char *chemnet_version(const chemnet_model *model)
{
    return model->version;
}

const char *chemnet_sha256(const chemnet_model *model)
{
    return model->sha256;
}

const char *chemnet_mechanism(const chemnet_model *model)
{
    return model->mechanism;
}

const char *chemnet_mechanism_sha256(const chemnet_model *model)
{
    return model->mechanism_sha256;
}

double chemnet_dt(const chemnet_model *model)
{
    return model->dt;
}

double chemnet_cold_limit(const chemnet_model *model)
{
    return model->cold_limit;
}

double chemnet_calm_limit(const chemnet_model *model)
{
    return model->calm_limit;
}

size_t chemnet_n_species(const chemnet_model *model)
{
    return model->n_species;
}

const char *chemnet_species_name(const chemnet_model *model, size_t k)
{
    return k < model->n_species ? model->species[k] : NULL;
}

long chemnet_species_index(const chemnet_model *model, const char *name)
{
    for (size_t k = 0; k < model->n_species; k++)
        if (strcmp(model->species[k], name) == 0)
            return (long)k;
    return -1;
}

enum chemnet_order chemnet_order(const chemnet_model *model)
{
    return model->order;
}

int chemnet_heating_is_checked(const chemnet_model *model)
{
    return model->heating_is_checked;
}

size_t chemnet_stack_bytes(const chemnet_model *model)
{
    return model->stack_bytes;
}

const char *chemnet_status_text(int status)
{
    switch (status) {
    case CHEMNET_OK:
        return "the step was taken";
    case CHEMNET_FAILED:
        return "the network's answer could not be closed; the state is unchanged";
    case CHEMNET_INVALID:
        return "the state is invalid; it is unchanged";
    case CHEMNET_OUTSIDE:
        return "the state lies outside the domain that the model was trained on; it is unchanged";
    case CHEMNET_SLOW:
        return "the gas is too cold or too calm for the network and has to be integrated; it is unchanged";
    default:
        return "no status of chemnet_step";
    }
}

int chemnet_check(const chemnet_model *model, double dt, size_t n_species, const char *const *species,
                  char *message, size_t size)
{
    if (!(fabs(dt - model->dt) <= 1e-9 * model->dt)) {
        snprintf(message, size, "this model advances by dt = %g s and by nothing else, not by %g s", model->dt, dt);
        return -1;
    }
    if (n_species != model->n_species) {
        snprintf(message, size, "this model is for the %lu species of %s, not for %lu",
                 (unsigned long)model->n_species, model->mechanism, (unsigned long)n_species);
        return -1;
    }
    for (size_t k = 0; k < n_species; k++) {
        if (strcmp(species[k], model->species[k]) != 0) {
            snprintf(message, size, "species %lu (from 0) of this model, made for %s, is %s, not %s",
                     (unsigned long)k, model->mechanism, model->species[k], species[k]);
            return -1;
        }
    }
    return 0;
}

int chemnet_heating_agrees(const chemnet_model *model, double dt, double T, double T_next, double heating,
                           double heating_next)
{
    double change = T_next - T, heated = 0.5 * dt * (heating + heating_next);
    return fabs(change - heated) <= model->heating_least + model->heating_share * fmax(fabs(change), fabs(heated));
}

