/*
 * The file of a model, little-endian whatever the machine is: "chemnetC", the format (4 bytes), the number of bytes of
 * the file (8), the content in the order in which read_content takes it, and the SHA-256 of all before it. A text is its
 * length (4 bytes) and its characters.
 */
#define FORMAT 1
#define HEADER 20
#define MOST 30000 /* of anything that is counted, so that the bytes of a matrix fit into 32 bits */

static const char magic[8] = {'c', 'h', 'e', 'm', 'n', 'e', 't', 'C'};

struct reader {
    const unsigned char *at;
    size_t left;
    chemnet_model *model; /* that owns what is allocated */
    int failed;           /* by a content that ends too early, is no model's, or does not fit into the memory */
};

static uint64_t read_bytes(struct reader *reader, size_t n)
{
    uint64_t value = 0;
    if (reader->failed || reader->left < n) {
        reader->failed = 1;
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        value |= (uint64_t)reader->at[i] << (8 * i);
    reader->at += n;
    reader->left -= n;
    return value;
}

static size_t read_count(struct reader *reader, size_t least, size_t most)
{
    size_t n = (size_t)read_bytes(reader, 4);
    if (n < least || n > most)
        reader->failed = 1;
    return reader->failed ? 0 : n;
}

static double read_number(struct reader *reader)
{
    uint64_t bits = read_bytes(reader, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float read_weight(struct reader *reader)
{
    uint32_t bits = (uint32_t)read_bytes(reader, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Zeroed memory that the model owns, aligned for lanes; NULL where reading has failed. */
static void *allocate(struct reader *reader, size_t n, size_t size)
{
    chemnet_model *model = reader->model;
    void **owned = reader->failed ? NULL : realloc(model->owned, (model->n_owned + 1) * sizeof *owned);
    if (owned == NULL) {
        reader->failed = 1;
        return NULL;
    }
    model->owned = owned;
    unsigned char *memory = calloc(n * size + ALIGNMENT, 1);
    if (memory == NULL) {
        reader->failed = 1;
        return NULL;
    }
    owned[model->n_owned++] = memory;
    return memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT);
}

static const char *read_text(struct reader *reader)
{
    size_t n = read_count(reader, 0, larger(reader->left, 4) - 4);
    char *text = allocate(reader, n + 1, 1);
    for (size_t i = 0; i < n && !reader->failed; i++)
        text[i] = (char)read_bytes(reader, 1);
    return text;
}

static const double *read_numbers(struct reader *reader, size_t n)
{
    if (n > reader->left / 8)
        reader->failed = 1;
    double *values = allocate(reader, n, sizeof *values);
    for (size_t i = 0; i < n && !reader->failed; i++)
        values[i] = read_number(reader);
    return values;
}

static void read_facts(struct reader *reader, chemnet_model *model)
{
    model->version = read_text(reader);
    model->mechanism = read_text(reader);
    model->mechanism_sha256 = read_text(reader);
    model->n_species = read_count(reader, 1, MOST);
    model->species = allocate(reader, model->n_species, sizeof *model->species);
    for (size_t k = 0; k < model->n_species && !reader->failed; k++)
        model->species[k] = read_text(reader);
    model->dt = read_number(reader);
}

static void read_limits(struct reader *reader, chemnet_model *model)
{
    size_t columns = 2 + model->n_species;
    model->cold_limit = read_number(reader);
    model->calm_limit = read_number(reader);
    model->calm_answer = (float)read_number(reader);
    model->T_min = read_number(reader);
    model->T_max = read_number(reader);
    model->least_Y = read_number(reader);
    model->sum_off = read_number(reader);
    model->low = read_numbers(reader, columns);
    model->high = read_numbers(reader, columns);
    model->n_sums = read_count(reader, 0, MOST);
    model->directions = read_numbers(reader, model->n_sums * (1 + model->n_species));
    model->bounds = read_numbers(reader, model->n_sums * 2);
    model->order = (enum chemnet_order)read_count(reader, CHEMNET_NETWORK_FIRST, CHEMNET_NEARLY_ALL_FIRST);
    model->heating_is_checked = (int)read_count(reader, 0, 1);
    model->heating_share = read_number(reader);
    model->heating_least = read_number(reader);
}

static void read_gas(struct reader *reader, chemnet_model *model)
{
    model->n_reactive = read_count(reader, 0, model->n_species);
    size_t *reactive = allocate(reader, model->n_reactive, sizeof *reactive);
    for (size_t j = 0; j < model->n_reactive && !reader->failed; j++)
        reactive[j] = read_count(reader, 0, model->n_species - 1);
    model->reactive = reactive;
    model->n_elements = read_count(reader, 0, MOST);
    model->elements = read_numbers(reader, model->n_elements * model->n_reactive);
    model->nasa_width = read_count(reader, 17, MOST);
    model->nasa = read_numbers(reader, model->n_species * model->nasa_width);
}

/* A layer's weights, (n_out, n_in) in the file, in panels. */
static struct layer read_layer(struct reader *reader, size_t n_in, size_t n_out)
{
    struct layer layer = {n_in, n_out, NULL, NULL};
    size_t padded = rounded_up(n_out, PANEL);
    if (n_in * n_out > reader->left / 4)
        reader->failed = 1;
    float *weights = allocate(reader, padded * n_in, sizeof *weights), *bias = allocate(reader, padded, sizeof *bias);
    for (size_t j = 0; j < n_out && !reader->failed; j++)
        for (size_t i = 0; i < n_in; i++)
            weights[j / PANEL * PANEL * n_in + i * PANEL + j % PANEL] = read_weight(reader);
    for (size_t j = 0; j < n_out && !reader->failed; j++)
        bias[j] = read_weight(reader);
    layer.weights = weights;
    layer.bias = bias;
    return layer;
}

static void read_network(struct reader *reader, chemnet_model *model)
{
    size_t columns = 2 + model->n_species;
    model->mean = read_numbers(reader, columns);
    model->gain = read_numbers(reader, columns);
    model->scale = read_numbers(reader, columns);
    model->power = (int)read_count(reader, 1, 100);
    model->activation = (enum activation)read_count(reader, RELU, TANH);
    model->n_layers = read_count(reader, 1, MOST);
    struct layer *layers = allocate(reader, model->n_layers, sizeof *layers);
    size_t width = read_count(reader, columns, columns);
    for (size_t i = 0; i < model->n_layers && !reader->failed; i++) {
        size_t next = i + 1 < model->n_layers ? read_count(reader, 1, MOST) : columns;
        layers[i] = read_layer(reader, width, next);
        width = next;
    }
    model->layers = layers;
}

static size_t stack_of_step(const chemnet_model *model);

/* 0, or -1 and a message, where the bytes are no whole file of this format. */
static int check_file(const unsigned char *bytes, size_t n, char *message, size_t size)
{
    unsigned char digest[DIGEST];
    struct reader header = {bytes, n, NULL, 0};
    if (n < HEADER + DIGEST || memcmp(bytes, magic, sizeof magic) != 0) {
        snprintf(message, size, "no model file of chemnet export --to c");
        return -1;
    }
    header.at += sizeof magic;
    unsigned long format = (unsigned long)read_bytes(&header, 4);
    uint64_t whole = read_bytes(&header, 8);
    if (format != FORMAT) {
        snprintf(message, size, "a model file of format %lu; this source reads format %d: export the model again", format,
                 FORMAT);
        return -1;
    }
    if (whole != n) {
        snprintf(message, size, "an incomplete model file: %lu bytes of %lu", (unsigned long)n,
                 (unsigned long)whole);
        return -1;
    }
    sha256(bytes, n - DIGEST, digest);
    if (memcmp(digest, bytes + n - DIGEST, DIGEST) != 0) {
        snprintf(message, size, "a damaged model file: its content does not match its SHA-256");
        return -1;
    }
    return 0;
}

chemnet_model *chemnet_read(const void *bytes, size_t n_bytes, char *message, size_t size)
{
    if (check_file(bytes, n_bytes, message, size) != 0)
        return NULL;
    chemnet_model *model = calloc(1, sizeof *model);
    struct reader reader = {(const unsigned char *)bytes + HEADER, n_bytes - HEADER - DIGEST, model, model == NULL};
    if (model != NULL) {
        read_facts(&reader, model);
        read_limits(&reader, model);
        read_gas(&reader, model);
        read_network(&reader, model);
    }
    if (reader.failed || reader.left != 0) {
        snprintf(message, size, "there is no memory for the model, or the content of its file is none");
        chemnet_free(model);
        return NULL;
    }
    for (int i = 0; i < DIGEST; i++)
        sprintf(model->sha256 + 2 * i, "%02x", (unsigned)((const unsigned char *)bytes)[n_bytes - DIGEST + (size_t)i]);
    model->stack_bytes = stack_of_step(model);
    return model;
}

/* The content of a file, to be freed; NULL where it cannot be read. */
static unsigned char *content_of(FILE *file, size_t *n)
{
    size_t space = 1 << 16;
    unsigned char *bytes = malloc(space);
    *n = 0;
    while (bytes != NULL) {
        *n += fread(bytes + *n, 1, space - *n, file);
        if (*n < space)
            break;
        unsigned char *more = realloc(bytes, space *= 2);
        if (more == NULL)
            free(bytes);
        bytes = more;
    }
    if (bytes != NULL && ferror(file)) {
        free(bytes);
        return NULL;
    }
    return bytes;
}

chemnet_model *chemnet_load(const char *path, char *message, size_t size)
{
    chemnet_model *model = NULL;
    size_t n = 0;
    FILE *file = fopen(path, "rb");
    unsigned char *bytes = file == NULL ? NULL : content_of(file, &n);
    int named = snprintf(message, size, "%s: ", path);
    size_t used = named > 0 && (size_t)named < size ? (size_t)named : 0;
    if (bytes == NULL)
        snprintf(message + used, size - used, "there is no such file, or it cannot be read");
    else
        model = chemnet_read(bytes, n, message + used, size - used);
    free(bytes);
    if (file != NULL)
        fclose(file);
    return model;
}

