/* Loads each file of the command line, and says "loaded" or why not; reads each from memory as well. */
#include <stdio.h>
#include <stdlib.h>

#include "chemnet_step.h"

static void read_from_memory(const char *path)
{
    static char bytes[1 << 22];
    char message[256] = "";
    FILE *file = fopen(path, "rb");
    size_t n = file == NULL ? 0 : fread(bytes, 1, sizeof bytes, file);
    chemnet_model *model = chemnet_read(bytes, n, message, sizeof message);
    printf("%s\n", model == NULL ? message : "read");
    chemnet_free(model);
    if (file != NULL)
        fclose(file);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char message[256] = "", short_message[8] = "";
        chemnet_model *model = chemnet_load(argv[i], message, sizeof message);
        printf("%s\n", model == NULL ? message : "loaded");
        chemnet_free(model);
        chemnet_free(chemnet_load(argv[i], short_message, sizeof short_message));
        read_from_memory(argv[i]);
    }
    return 0;
}
