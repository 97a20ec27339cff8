/*
 * Enthalpy and heat capacity of a mixture: polynomials of the species are mixed first and evaluated once. A row of the
 * table is [T_1, a_0..a_6 below it, a_0..a_6 above it, W, free]; a wider one goes on with [c, d below T_1, c, d above
 * it], and [T_i, a_0..a_6, c, d] for each further range:
 *
 *     cp = a_0 + a_1 T + a_2 T^2 + a_3 T^3 + a_4 T^4 + c/T^2 + d/T
 *     h = a_5 + a_0 T + a_1 T^2/2 + a_2 T^3/3 + a_3 T^4/4 + a_4 T^5/5 - c/T + d ln T
 */
#define BELOW 1
#define ABOVE 8
#define PLAIN 17 /* width of a table without further ranges and negative powers */
#define FURTHER 21
#define FURTHER_STRIDE 10

struct caloric {
    double h, cp; /* [J/kg], [J/kg/K] */
};

/* Where the coefficients of a species at T begin, and in *inverse where its c and d do. */
static const double *range_at(const double *row, size_t width, double T, const double **inverse)
{
    int below = row[0] >= T;
    const double *a = row + (below ? BELOW : ABOVE);
    *inverse = row + (below ? PLAIN : PLAIN + 2);
    for (size_t q = FURTHER; q < width; q += FURTHER_STRIDE)
        if (row[q] < T) {
            a = row + q + 1;
            *inverse = row + q + 8;
        }
    return a;
}

/* Of one mixture; mass fraction k is Y[k * stride]. */
static struct caloric caloric(const chemnet_model *model, double T, const double *Y, size_t stride)
{
    double a[6] = {0}, c = 0.0, d = 0.0;
    int wide = model->nasa_width > PLAIN;
    for (size_t k = 0; k < model->n_species; k++) {
        const double *inverse, *row = model->nasa + k * model->nasa_width;
        const double *of_species = range_at(row, model->nasa_width, T, &inverse);
        for (int i = 0; i < 6; i++)
            a[i] += Y[k * stride] * of_species[i];
        if (wide) {
            c += Y[k * stride] * inverse[0];
            d += Y[k * stride] * inverse[1];
        }
    }
    struct caloric mixture = {
        a[5] + T * (a[0] + T * (a[1] / 2 + T * (a[2] / 3 + T * (a[3] / 4 + T * a[4] / 5)))),
        a[0] + T * (a[1] + T * (a[2] + T * (a[3] + T * a[4]))),
    };
    if (wide) {
        mixture.h += d * log(T) - c / T;
        mixture.cp += (c / T + d) / T;
    }
    return mixture;
}

/*
 * Of the mixtures Y (K, LANES) of a group. What of a species is below T_1 and what is above it (one of them is zero)
 * are summed with the coefficients of their ranges, and the sums stay in registers.
 */
static void caloric_of_group(const chemnet_model *model, const double *T, cells *Y, double *h, double *cp)
{
    if (model->nasa_width > PLAIN) {
        for (int l = 0; l < LANES; l++) {
            struct caloric mixture = caloric(model, T[l], &Y[0][l], LANES);
            h[l] = mixture.h;
            cp[l] = mixture.cp;
        }
        return;
    }
    part a[6][PARTS];
    memset(a, 0, sizeof a);
    for (size_t k = 0; k < model->n_species; k++) {
        const double *row = model->nasa + k * PLAIN;
        part below[PARTS];
        for (int l = 0; l < LANES; l++)
            ((double *)below)[l] = row[0] >= T[l] ? Y[k][l] : 0.0;
        for (int i = 0; i < 6; i++)
            for (int q = 0; q < PARTS; q++)
                a[i][q] += below[q] * row[BELOW + i] + (((const part *)Y[k])[q] - below[q]) * row[ABOVE + i];
    }
    for (int q = 0; q < PARTS; q++) {
        part t = ((const part *)T)[q], *of_h = (part *)h + q, *of_cp = (part *)cp + q;
        *of_h = a[5][q] + t * (a[0][q] + t * (a[1][q] / 2 + t * (a[2][q] / 3 + t * (a[3][q] / 4 + t * a[4][q] / 5))));
        *of_cp = a[0][q] + t * (a[1][q] + t * (a[2][q] + t * (a[3][q] + t * a[4][q])));
    }
}

