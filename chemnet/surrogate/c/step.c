/* The step: cells that are not cold go through the network in tiles, whose memory is on the stack. */

struct tile {
    size_t used;            /* cells; the last one fills the lanes that are left */
    size_t cell[CELLS];     /* their places in the caller's arrays */
    float *values[2];       /* of the network, see run_network */
    struct group groups[GROUPS];
    struct closure closure;
    struct one one;
};

/* The next n numbers of memory, which grows where `at` is NULL; memory is handed out in whole lines of the cache. */
struct memory {
    unsigned char *at;
    size_t used;
};

static void *take(struct memory *memory, size_t n, size_t size)
{
    unsigned char *taken = memory->at == NULL ? NULL : memory->at + memory->used;
    memory->used += rounded_up(n * size, ALIGNMENT);
    return taken;
}

static void lay_out(const chemnet_model *model, struct tile *tile, struct memory *memory)
{
    size_t K = model->n_species, m = model->n_reactive, n = model->n_elements;
    struct closure *c = &tile->closure;
    struct one *one = &tile->one;
    for (size_t i = 0; i < 2; i++)
        tile->values[i] = take(memory, most_values(model, i), sizeof(float));
    for (int g = 0; g < GROUPS; g++) {
        struct group *group = &tile->groups[g];
        group->Y = take(memory, K, sizeof(cells));
        group->root = take(memory, K, sizeof(cells));
        group->T = take(memory, LANES, sizeof(double));
        group->p = take(memory, LANES, sizeof(double));
        group->h = take(memory, LANES, sizeof(double));
        group->inside = take(memory, LANES, sizeof(int));
    }
    c->Y = take(memory, K, sizeof(cells));
    c->new = take(memory, m, sizeof(cells));
    c->weights = take(memory, m, sizeof(cells));
    c->rows = take(memory, n * m, sizeof(cells));
    c->factors = take(memory, n * n, sizeof(cells));
    c->matrix = take(memory, n * n, sizeof(cells));
    c->missing = take(memory, n, sizeof(cells));
    c->T = take(memory, LANES, sizeof(double));
    c->hard = take(memory, LANES, sizeof(double));
    one->Y = take(memory, K, sizeof(double));
    one->old = take(memory, m, sizeof(double));
    one->new = take(memory, m, sizeof(double));
    one->weights = take(memory, m, sizeof(double));
    one->rows = take(memory, n * m, sizeof(double));
    one->matrix = take(memory, n * n, sizeof(double));
    one->missing = take(memory, n, sizeof(double));
}

static size_t stack_of_step(const chemnet_model *model)
{
    struct tile tile;
    struct memory memory = {NULL, 0};
    lay_out(model, &tile, &memory);
    return memory.used + ALIGNMENT;
}

/* Whether a state is one of a gas; NaN fails every comparison. */
static int is_valid(const chemnet_model *model, double T, double p, const double *Y)
{
    double least = 0.0, total = 0.0;
    for (size_t k = 0; k < model->n_species; k++) {
        least = Y[k] < least ? Y[k] : least;
        total += Y[k];
    }
    return T >= model->T_min && T <= model->T_max && p > 0.0 && p < INFINITY && least >= model->least_Y &&
           fabs(total - 1.0) <= model->sum_off;
}

/* Choose the tile's cells from `first` on, mark those that are cold, and return where the next tile begins. */
static size_t choose(const chemnet_model *model, struct tile *tile, size_t first, size_t n, const double *T,
                     const double *p, const double *Y, int *status)
{
    size_t i = first;
    for (tile->used = 0; i < n && tile->used < CELLS; i++) {
        if (!(T[i] < model->cold_limit))
            tile->cell[tile->used++] = i;
        else
            status[i] = is_valid(model, T[i], p[i], Y + i * model->n_species) ? CHEMNET_SLOW : CHEMNET_INVALID;
    }
    for (size_t at = tile->used; at < CELLS && tile->used > 0; at++)
        tile->cell[at] = tile->cell[tile->used - 1];
    return i;
}

/* Fetch the states of a group, prepare it, and mark its cells; returns whether any is the network's. */
static int begin(const chemnet_model *model, struct tile *tile, size_t g, const double *T, const double *p,
                 const double *Y, int *status)
{
    const struct group *group = &tile->groups[g];
    int any = 0;
    for (size_t l = 0; l < LANES; l++) {
        size_t i = tile->cell[g * LANES + l];
        group->T[l] = T[i];
        group->p[l] = p[i];
        for (size_t k = 0; k < model->n_species; k++)
            group->Y[k][l] = Y[i * model->n_species + k];
    }
    prepare_group(model, group, tile->values[0] + g * LANES);
    for (size_t l = 0; l < LANES && g * LANES + l < tile->used; l++) {
        size_t i = tile->cell[g * LANES + l];
        any |= group->inside[l];
        status[i] = CHEMNET_OK;
        if (!group->inside[l])
            status[i] = is_valid(model, T[i], p[i], Y + i * model->n_species) ? CHEMNET_OUTSIDE : CHEMNET_INVALID;
    }
    return any;
}

/* Whether all changes that a cell's answers stand for are small. */
static int is_calm(const chemnet_model *model, const float *answers)
{
    float largest = 0.0f;
    for (size_t k = 0; k < model->n_species; k++) {
        float size = model->scale[2 + k] != 0.0 ? fabsf(answers[(2 + k) * CELLS]) : 0.0f;
        largest = size > largest ? size : largest;
    }
    return largest < model->calm_answer;
}

/* Close the cell in lane l of a group by itself, into one->Y and *T. */
static int close_alone(const chemnet_model *model, const struct one *one, const struct group *group, size_t l,
                       const float *answers, double *T)
{
    for (size_t k = 0; k < model->n_species; k++)
        one->Y[k] = group->Y[k][l];
    for (size_t j = 0; j < model->n_reactive; j++) {
        size_t k = model->reactive[j];
        double root = next_root(group->root[k][l], answers[(2 + k) * CELLS], model->scale[2 + k], model->power);
        one->old[j] = one->Y[k];
        root *= root;
        root *= root;
        one->new[j] = root * root;
    }
    return close_one(model, one, T);
}

/* Close a group and write the cells whose step is taken. */
static void end(const chemnet_model *model, struct tile *tile, size_t g, const float *answers, double *T, double *Y,
                int *status)
{
    const struct group *group = &tile->groups[g];
    const struct closure *c = &tile->closure;
    finish_group(model, group, answers + g * LANES, c);
    for (size_t l = 0; l < LANES && g * LANES + l < tile->used; l++) {
        size_t i = tile->cell[g * LANES + l], K = model->n_species;
        const float *of_cell = answers + g * LANES + l;
        double T_next = group->T[l];
        if (status[i] != CHEMNET_OK)
            continue;
        if (c->hard[l] != 0.0 && !close_alone(model, &tile->one, group, l, of_cell, &T_next)) {
            status[i] = CHEMNET_FAILED;
            continue;
        }
        if (is_calm(model, of_cell)) {
            status[i] = CHEMNET_SLOW;
            continue;
        }
        T[i] = c->hard[l] != 0.0 ? T_next : c->T[l];
        for (size_t k = 0; k < K; k++)
            Y[i * K + k] = c->hard[l] != 0.0 ? tile->one.Y[k] : c->Y[k][l];
    }
}

static void advance(const chemnet_model *model, size_t n, double *T, const double *p, double *Y, int *status)
{
    unsigned char stack[model->stack_bytes];
    struct memory memory = {stack + (ALIGNMENT - (uintptr_t)stack % ALIGNMENT), 0};
    struct tile tile;
    lay_out(model, &tile, &memory);
    for (size_t first = 0; first < n;) {
        int any = 0;
        first = choose(model, &tile, first, n, T, p, Y, status);
        for (size_t g = 0; g < GROUPS && tile.used > 0; g++)
            any |= begin(model, &tile, g, T, p, Y, status);
        if (!any)
            continue;
        const float *answers = run_network(model, tile.values);
        for (size_t g = 0; g < GROUPS; g++)
            end(model, &tile, g, answers, T, Y, status);
    }
}

/* Floating-point exceptions do not trap meanwhile: NaN is a cell's own matter, and unused lanes may divide by zero. */
size_t chemnet_step(const chemnet_model *model, size_t n, double *T, const double *p, double *Y, int *status)
{
    fenv_t environment;
    size_t left = 0;
    feholdexcept(&environment);
    advance(model, n, T, p, Y, status);
    fesetenv(&environment);
    for (size_t i = 0; i < n; i++)
        left += status[i] != CHEMNET_OK;
    return left;
}
