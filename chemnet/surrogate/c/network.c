/* The network for the cells of a tile: values lie as (neurons, CELLS). */

#define SUMMED 64 /* products that are summed before they are added to the total: less round-off in wide layers */

/* PANEL neurons, before the activation. */
static void compute_panel(const float *weights, const float *bias, size_t n_in, const float *in, float *out)
{
    lanes total[PANEL][GROUPS];
    for (int j = 0; j < PANEL; j++)
        for (int g = 0; g < GROUPS; g++)
            total[j][g] = bias[j] + (lanes){0};
    for (size_t first = 0; first < n_in; first += SUMMED) {
        size_t last = first + SUMMED < n_in ? first + SUMMED : n_in;
        lanes sum[PANEL][GROUPS];
        for (int j = 0; j < PANEL; j++)
            for (int g = 0; g < GROUPS; g++)
                sum[j][g] = (lanes){0};
        for (size_t i = first; i < last; i++) {
            const lanes *values = (const lanes *)(in + i * CELLS);
            for (int j = 0; j < PANEL; j++)
                for (int g = 0; g < GROUPS; g++)
                    sum[j][g] += weights[i * PANEL + (size_t)j] * values[g];
        }
        for (int j = 0; j < PANEL; j++)
            for (int g = 0; g < GROUPS; g++)
                total[j][g] += sum[j][g];
    }
    for (int j = 0; j < PANEL; j++)
        for (int g = 0; g < GROUPS; g++)
            ((lanes *)(out + j * CELLS))[g] = total[j][g];
}

static void relu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/*
 * x Phi(x), with the normal distribution Phi(x) = 1/2 + x q(x^2) to 1.6e-7. The polynomial q, in u from -1 to 1, is of
 * least error for |x| <= 5.5, and a little too large where that ends: from there on Phi is 0 or 1, without any rest that
 * a large x would multiply.
 */
static void gelu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float bounded = x[i] < -5.5f ? -5.5f : x[i];
        bounded = bounded > 5.5f ? 5.5f : bounded;
        float u = bounded * bounded * (2.0f / 30.25f) - 1.0f;
        float q = 8.60645159e-05f;
        q = q * u - 0.000267156604f; q = q * u + 0.000302140601f; q = q * u - 0.00042123138f;
        q = q * u + 0.00123132521f; q = q * u - 0.00256952294f; q = q * u + 0.00420962041f;
        q = q * u - 0.00671300432f; q = q * u + 0.0104114199f; q = q * u - 0.0150394058f;
        q = q * u + 0.0203203019f; q = q * u - 0.0260404963f; q = q * u + 0.0320754945f;
        q = q * u - 0.038793426f; q = q * u + 0.0477373973f; q = q * u - 0.0641723201f;
        q = q * u + 0.12855193f;
        float part = bounded * q;
        part = part < -0.5f ? -0.5f : part;
        part = part > 0.5f ? 0.5f : part;
        x[i] *= part + 0.5f;
    }
}

/* 1 / (1 + exp(-x)), to 1e-7: exp(r) of a polynomial, and 2^k put together from its bits. */
static float logistic(float x)
{
    float y = x < -87.0f ? -87.0f : x;
    y = y > 87.0f ? 87.0f : y;
    float k = -y * 1.44269504f + 12582912.0f; /* 1.5 2^23: the sum is rounded to a whole number */
    int32_t power;
    memcpy(&power, &k, sizeof power);
    k -= 12582912.0f;
    float r = -y - k * 0.693359375f + k * 2.12194440e-4f;
    float e = 0.0013835798f;
    e = e * r + 0.00837564468f; e = e * r + 0.0416682884f; e = e * r + 0.166664109f;
    e = e * r + 0.499999911f; e = e * r + 1.0f; e = e * r + 1.0f;
    int32_t bits = (int32_t)(((uint32_t)power + 127u) << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return 1.0f / (1.0f + e * scale);
}

static void silu(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= logistic(x[i]);
}

static void hyperbolic_tangent(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 2.0f * logistic(2.0f * x[i]) - 1.0f;
}

static void activate(enum activation activation, float *x, size_t n)
{
    switch (activation) {
    case RELU:
        relu(x, n);
        break;
    case GELU:
        gelu(x, n);
        break;
    case SILU:
        silu(x, n);
        break;
    case TANH:
        hyperbolic_tangent(x, n);
        break;
    }
}

static void compute_layer(const struct layer *layer, const float *in, float *out)
{
    for (size_t j = 0; j < layer->n_out; j += PANEL)
        compute_panel(layer->weights + j * layer->n_in, layer->bias + j, layer->n_in, in, out + j * CELLS);
}

/* Floats that the values before (first 0) or after (first 1) every other layer need. */
static size_t most_values(const chemnet_model *model, size_t first)
{
    size_t most = first == 0 ? model->layers[0].n_in : 0;
    for (size_t i = 1 - first; i < model->n_layers; i += 2)
        most = larger(most, rounded_up(model->layers[i].n_out, PANEL));
    return most * CELLS;
}

/* The answers (C, CELLS) to the inputs in values[0]; layers read one of the two arrays and write the other. */
static const float *run_network(const chemnet_model *model, float *const values[2])
{
    for (size_t i = 0; i < model->n_layers; i++) {
        const struct layer *layer = &model->layers[i];
        float *out = values[(i + 1) % 2];
        compute_layer(layer, values[i % 2], out);
        if (i + 1 < model->n_layers)
            activate(model->activation, out, layer->n_out * CELLS);
    }
    return values[model->n_layers % 2];
}

