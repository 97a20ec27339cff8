/*
 * A group of LANES cells before and after the network. `hard` marks the lanes that are left to the closure of one cell.
 */
#define ROUND_OFF 1e-15 /* [kg/kg] of an element that may be missing after the closure */
#define NEWTON_STEPS 3

/* What the step keeps of a group while the network is computed; K species. */
struct group {
    cells *Y, *root; /* (K) mass fractions and their roots Y^(1/8) */
    double *T, *p, *h;
    int *inside; /* the domain */
};

/* Memory for the closure of a group; m reactive species, E elements. */
struct closure {
    cells *Y;              /* (K) the state after the step */
    cells *new, *weights;  /* (m) */
    cells *rows, *factors; /* (E, m), (E, E) combinations of elements, and how they were combined */
    cells *matrix;         /* (E, E) */
    cells *missing;        /* (E) */
    double *T, *hard;
};

static double positive(double x) /* or NaN */
{
    return x < 0.0 ? 0.0 : x;
}

static void keep_between(const double *values, double low, double high, int *inside)
{
    for (int l = 0; l < LANES; l++)
        inside[l] &= (values[l] >= low) & (values[l] <= high);
}

/* Whether the cells are inside the domain, and the inputs of the network: (C, CELLS), from `inputs` on. */
static void prepare_group(const chemnet_model *model, const struct group *group, float *inputs)
{
    size_t K = model->n_species;
    cells total, cp;
    for (int l = 0; l < LANES; l++)
        group->inside[l] = 1;
    keep_between(group->T, model->low[0], model->high[0], group->inside);
    keep_between(group->p, model->low[1], model->high[1], group->inside);
    caloric_of_group(model, group->T, group->Y, group->h, cp);
    for (size_t d = 0; d < model->n_sums; d++) {
        const double *direction = model->directions + d * (1 + K);
        for (int l = 0; l < LANES; l++)
            total[l] = direction[0] * group->h[l];
        for (size_t k = 0; k < K; k++)
            for (int l = 0; l < LANES; l++)
                total[l] += direction[1 + k] * group->Y[k][l];
        keep_between(total, model->bounds[2 * d], model->bounds[2 * d + 1], group->inside);
    }
    for (int l = 0; l < LANES; l++) {
        inputs[l] = (float)((group->T[l] - model->mean[0]) * model->gain[0]);
        inputs[CELLS + l] = (float)((group->p[l] - model->mean[1]) * model->gain[1]);
        total[l] = 0.0;
    }
    for (size_t k = 0; k < K; k++) {
        const double *Y = group->Y[k];
        double *root = group->root[k], mean = model->mean[2 + k], gain = model->gain[2 + k];
        keep_between(Y, model->low[2 + k], model->high[2 + k], group->inside);
        for (int l = 0; l < LANES; l++) {
            total[l] += Y[l];
            root[l] = sqrt(sqrt(sqrt(positive(Y[l]))));
            inputs[(2 + k) * CELLS + (size_t)l] = (float)(((root[l] - 1.0) * 8.0 - mean) * gain);
        }
    }
    for (int l = 0; l < LANES; l++)
        group->inside[l] &= fabs(total[l] - 1.0) <= model->sum_off;
}

/* Y^(1/8) after the step, before the closure. */
static double next_root(double root, double answer, double scale, int power)
{
    double change = answer * scale;
    for (int i = 1; i < power; i++)
        change *= fabs(answer);
    return positive(root + change);
}

/* Mass of element e that the step has lost [kg/kg]. */
static void find_lost(const chemnet_model *model, const struct group *group, const struct closure *c, size_t e,
                      double *lost)
{
    const double *element = model->elements + e * model->n_reactive;
    for (int l = 0; l < LANES; l++)
        lost[l] = 0.0;
    for (size_t j = 0; j < model->n_reactive; j++) {
        const double *old = group->Y[model->reactive[j]], *new = c->new[j];
        for (int l = 0; l < LANES; l++)
            lost[l] += element[j] * (old[l] - new[l]);
    }
}

/*
 * Combine the element rows so that each leaves out the heaviest species of the rows before it, as `reduce` does, without
 * a search for the row. A row without species (an absent element) is left out of the others.
 */
static void reduce_group(const chemnet_model *model, const struct closure *c)
{
    size_t n = model->n_elements, m = model->n_reactive;
    for (size_t i = 0; i < n * m; i++)
        for (int l = 0; l < LANES; l++)
            c->rows[i][l] = model->elements[i];
    for (size_t p = 0; p + 1 < n; p++) {
        cells *first = c->rows + p * m;
        cells heaviest = {0};
        for (size_t j = 0; j < m; j++)
            for (int l = 0; l < LANES; l++) {
                double size = first[j][l] * first[j][l] * c->weights[j][l];
                heaviest[l] = size > heaviest[l] ? size : heaviest[l];
            }
        for (size_t e = p + 1; e < n; e++) {
            cells *other = c->rows + e * m;
            double *factor = c->factors[e * n + p];
            for (int l = 0; l < LANES; l++)
                factor[l] = 0.0;
            for (size_t j = 0; j < m; j++)
                for (int l = 0; l < LANES; l++) {
                    double size = first[j][l] * first[j][l] * c->weights[j][l], ratio = other[j][l] / first[j][l];
                    factor[l] = ((size >= heaviest[l]) & (heaviest[l] > 0.0)) ? ratio : factor[l];
                }
            for (size_t j = 0; j < m; j++)
                for (int l = 0; l < LANES; l++) {
                    double size = first[j][l] * first[j][l] * c->weights[j][l];
                    double reduced = other[j][l] - factor[l] * first[j][l];
                    other[j][l] = ((size >= heaviest[l]) & (heaviest[l] > 0.0)) ? 0.0 : reduced;
                }
        }
    }
}

/* Cholesky's L L^T of rows W rows^T, with the inverse of its diagonal; 0 there drops an element that is absent. */
static void factorise_group(const struct closure *c, size_t n, size_t m)
{
    for (size_t e = 0; e < n; e++)
        for (size_t f = 0; f <= e; f++) {
            cells *L_e = c->matrix + e * n, *L_f = c->matrix + f * n;
            cells total = {0};
            for (size_t j = 0; j < m; j++)
                for (int l = 0; l < LANES; l++)
                    total[l] += c->rows[e * m + j][l] * c->weights[j][l] * c->rows[f * m + j][l];
            for (size_t g = 0; g < f; g++)
                for (int l = 0; l < LANES; l++)
                    total[l] -= L_e[g][l] * L_f[g][l];
            for (int l = 0; l < LANES; l++) {
                double inverse = 1.0 / sqrt(total[l]);
                c->matrix[e * n + f][l] = e != f ? total[l] * L_f[f][l] : total[l] > 0.0 ? inverse : 0.0;
            }
        }
}

/* Combine `missing` as the rows were, and solve for the multipliers of the rows, in place. */
static void solve_group(const struct closure *c, size_t n)
{
    cells *b = c->missing;
    cells *L = c->matrix;
    for (size_t p = 0; p + 1 < n; p++)
        for (size_t e = p + 1; e < n; e++)
            for (int l = 0; l < LANES; l++)
                b[e][l] -= c->factors[e * n + p][l] * b[p][l];
    for (size_t e = 0; e < n; e++) {
        for (size_t f = 0; f < e; f++)
            for (int l = 0; l < LANES; l++)
                b[e][l] -= L[e * n + f][l] * b[f][l];
        for (int l = 0; l < LANES; l++)
            b[e][l] *= L[e * n + e][l];
    }
    for (size_t e = n; e-- > 0;) {
        for (size_t f = e + 1; f < n; f++)
            for (int l = 0; l < LANES; l++)
                b[e][l] -= L[f * n + e][l] * b[f][l];
        for (int l = 0; l < LANES; l++)
            b[e][l] *= L[e * n + e][l];
    }
}

/* Add the weighted least change of `new` that restores the elements, refined once against round-off. */
static void project_group(const chemnet_model *model, const struct group *group, const struct closure *c)
{
    size_t n = model->n_elements, m = model->n_reactive;
    reduce_group(model, c);
    factorise_group(c, n, m);
    for (int turn = 0; turn < 2; turn++) {
        for (size_t e = 0; e < n; e++)
            find_lost(model, group, c, e, c->missing[e]);
        solve_group(c, n);
        for (size_t j = 0; j < m; j++) {
            cells total = {0};
            for (size_t e = 0; e < n; e++)
                for (int l = 0; l < LANES; l++)
                    total[l] += c->rows[e * m + j][l] * c->missing[e][l];
            for (int l = 0; l < LANES; l++)
                c->new[j][l] += c->weights[j][l] * total[l];
        }
    }
}

/* The state after the step in c->Y and c->T, from the network's answers (C, CELLS). */
static void finish_group(const chemnet_model *model, const struct group *group, const float *answers,
                         const struct closure *c)
{
    size_t K = model->n_species, m = model->n_reactive;
    cells last, h, cp;
    for (size_t j = 0; j < m; j++) {
        size_t k = model->reactive[j];
        const float *answer = answers + (2 + k) * CELLS;
        for (int l = 0; l < LANES; l++) {
            double root = next_root(group->root[k][l], answer[l], model->scale[2 + k], model->power);
            double second = root * root, fourth = second * second, new = fourth * fourth;
            c->new[j][l] = new;
            c->weights[j][l] = new * fourth * second; /* Y^1.75 */
        }
    }
    project_group(model, group, c);
    for (int l = 0; l < LANES; l++)
        c->hard[l] = 0.0;
    for (size_t e = 0; e < model->n_elements; e++) {
        find_lost(model, group, c, e, last);
        for (int l = 0; l < LANES; l++)
            c->hard[l] = fabs(last[l]) <= ROUND_OFF ? c->hard[l] : 1.0;
    }
    memcpy(c->Y, group->Y, K * sizeof *c->Y);
    for (size_t j = 0; j < m; j++)
        for (int l = 0; l < LANES; l++) {
            c->Y[model->reactive[j]][l] = c->new[j][l];
            c->hard[l] = c->new[j][l] >= 0.0 ? c->hard[l] : 1.0;
        }
    memcpy(c->T, group->T, LANES * sizeof *c->T);
    for (int i = 0; i < NEWTON_STEPS; i++) {
        caloric_of_group(model, c->T, c->Y, h, cp);
        for (int l = 0; l < LANES; l++) {
            last[l] = (group->h[l] - h[l]) / cp[l];
            c->T[l] += last[l];
        }
    }
    for (int l = 0; l < LANES; l++)
        c->hard[l] = fabs(last[l]) <= c->T[l] * SETTLED ? c->hard[l] : 1.0;
}

