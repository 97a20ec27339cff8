/*
 * Closure of one cell: elements, positivity, temperature. It takes what the closure of a group, below, cannot: an answer
 * that would turn a mass fraction negative, elements in nearly fixed proportion, a temperature that does not settle.
 *
 * Inert species keep their mass fractions. The others are moved by the smallest change, in the norm weighted with
 * 1/Y^1.75, that restores the element masses: Y += W E^T (E W E^T)^-1 (E Y_old - E Y), W = diag(Y^1.75).
 */
#define CLOSED 2e-16       /* [kg/kg] a residual this small is round-off */
#define MAX_RESIDUAL 1e-13 /* [kg/kg] beyond it the closure has failed */
#define MAX_NEWTON 50
#define SETTLED 1e-8 /* relative change of T in the last step of Newton's method, which converges quadratically */
#define MAX_GAP 1e-3 /* [K] between its last steps where polynomials do not meet */

/* One cell's memory: m reactive species, E elements. */
struct one {
    double *Y;              /* (K) the state after the step; inert species as before it */
    double *old, *new;      /* (m) */
    double *weights;        /* (m) */
    double *rows, *matrix;  /* (E, m), (E, E) */
    double *missing;        /* (E) */
};

/* Set what has turned negative to zero; 1 if anything was. NaN stays, and the temperature finds it. */
static int clip(const struct one *one, size_t m)
{
    int clipped = 0;
    for (size_t j = 0; j < m; j++) {
        double least = one->old[j] < 0.0 ? one->old[j] : 0.0;
        if (one->new[j] < least) {
            one->new[j] = least;
            clipped = 1;
        }
    }
    return clipped;
}

/* Element masses that the step has lost into `missing`; returns the largest of them [kg/kg]. */
static double find_missing(const chemnet_model *model, const struct one *one)
{
    size_t m = model->n_reactive;
    double largest = 0.0;
    for (size_t e = 0; e < model->n_elements; e++) {
        double total = 0.0;
        for (size_t j = 0; j < m; j++)
            total += model->elements[e * m + j] * (one->old[j] - one->new[j]);
        one->missing[e] = total;
        largest = !(fabs(total) <= largest) ? fabs(total) : largest;
    }
    return largest;
}

static void swap(double *a, double *b)
{
    double kept = *a;
    *a = *b;
    *b = kept;
}

/*
 * Combine the element rows so that each but the first leaves out the heaviest species of the rows before it: early in
 * an ignition nearly all carbon and hydrogen is in the fuel, E W E^T is then singular but for traces, and combinations
 * such as H - 4 C, which the fuel does not contain, keep what the traces have to carry. Returns the rank: rows beyond
 * it belong to elements that are absent or dependent.
 */
static size_t reduce(const chemnet_model *model, const struct one *one)
{
    size_t n = model->n_elements, m = model->n_reactive;
    memcpy(one->rows, model->elements, n * m * sizeof *one->rows);
    for (size_t p = 0; p < n; p++) {
        double heaviest = 0.0, *first = one->rows + p * m;
        size_t row = p, column = 0;
        for (size_t e = p; e < n; e++)
            for (size_t j = 0; j < m; j++) {
                double size = one->rows[e * m + j] * one->rows[e * m + j] * one->weights[j];
                if (size > heaviest) {
                    heaviest = size;
                    row = e;
                    column = j;
                }
            }
        if (heaviest == 0.0)
            return p;
        for (size_t j = 0; j < m; j++)
            swap(&first[j], &one->rows[row * m + j]);
        swap(&one->missing[p], &one->missing[row]);
        for (size_t e = p + 1; e < n; e++) {
            double *other = one->rows + e * m, factor = other[column] / first[column];
            for (size_t j = 0; j < m; j++)
                other[j] -= factor * first[j];
            other[column] = 0.0;
            one->missing[e] -= factor * one->missing[p];
        }
    }
    return n;
}

/* Solve (rows W rows^T) x = missing for the first `rank` rows, in place, by Cholesky's L L^T. */
static void solve(const struct one *one, size_t rank, size_t n, size_t m)
{
    double *L = one->matrix, *b = one->missing;
    for (size_t e = 0; e < rank; e++)
        for (size_t f = 0; f <= e; f++) {
            double total = 0.0;
            for (size_t j = 0; j < m; j++)
                total += one->rows[e * m + j] * one->weights[j] * one->rows[f * m + j];
            for (size_t g = 0; g < f; g++)
                total -= L[e * n + g] * L[f * n + g];
            L[e * n + f] = e == f ? sqrt(total) : total / L[f * n + f];
        }
    for (size_t e = 0; e < rank; e++) {
        for (size_t f = 0; f < e; f++)
            b[e] -= L[e * n + f] * b[f];
        b[e] /= L[e * n + e];
    }
    for (size_t e = rank; e-- > 0;) {
        for (size_t f = e + 1; f < rank; f++)
            b[e] -= L[f * n + e] * b[f];
        b[e] /= L[e * n + e];
    }
}

/* Add the weighted least change of `new` that restores the elements, refined once against round-off. */
static void project(const chemnet_model *model, const struct one *one)
{
    size_t m = model->n_reactive;
    for (size_t j = 0; j < m; j++) {
        double root = sqrt(one->new[j] < 0.0 ? 0.0 : one->new[j]);
        one->weights[j] = one->new[j] * root * sqrt(root);
    }
    for (int turn = 0; turn < 2; turn++) {
        if (find_missing(model, one) <= CLOSED)
            return;
        size_t rank = reduce(model, one);
        solve(one, rank, model->n_elements, m);
        for (size_t e = 0; e < rank; e++)
            for (size_t j = 0; j < m; j++)
                one->new[j] += one->weights[j] * one->rows[e * m + j] * one->missing[e];
    }
}

/* Go back along the line to `old`, which has the same elements, until no species is negative. */
static void shorten(const struct one *one, size_t m)
{
    double share = 1.0;
    for (size_t j = 0; j < m; j++) {
        double least = one->old[j] < 0.0 ? one->old[j] : 0.0;
        if (one->new[j] < least) {
            double until = (one->old[j] - least) / (one->old[j] - one->new[j]);
            share = until < share ? until : share;
        }
    }
    for (size_t j = 0; j < m && share < 1.0; j++) {
        double least = one->old[j] < 0.0 ? one->old[j] : 0.0, new = one->old[j] + share * (one->new[j] - one->old[j]);
        one->new[j] = new < least ? least : new;
    }
}

/* Temperature [K] at which the mixture Y (K) has the enthalpy h [J/kg]; NaN where there is none. */
static double temperature(const chemnet_model *model, double h, const double *Y, double T)
{
    double step = INFINITY;
    for (int i = 0; i < MAX_NEWTON; i++) {
        struct caloric mixture = caloric(model, T, Y, 1);
        step = (h - mixture.h) / mixture.cp;
        T += step;
        if (fabs(step) <= SETTLED * T)
            return T;
    }
    return fabs(step) < MAX_GAP ? T : NAN;
}

/* Close one->new, an answer to one->old; one->Y holds the state before the step, and after it if that is closed. */
static int close_one(const chemnet_model *model, const struct one *one, double *T)
{
    size_t m = model->n_reactive;
    double h = caloric(model, *T, one->Y, 1).h;
    clip(one, m);
    project(model, one);
    if (clip(one, m)) {
        project(model, one);
        shorten(one, m);
    }
    for (size_t j = 0; j < m; j++)
        one->Y[model->reactive[j]] = one->new[j];
    *T = temperature(model, h, one->Y, *T);
    return find_missing(model, one) <= MAX_RESIDUAL && *T > 0.0;
}

