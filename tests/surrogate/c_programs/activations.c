/* The activations of the network at the numbers of the standard input: relu, gelu, silu and tanh of each on a line. */
#include "chemnet_step.c"

#define MOST_NUMBERS 100000

int main(void)
{
    static float x[4][MOST_NUMBERS];
    size_t n = 0;
    while (n < MOST_NUMBERS && scanf("%f", &x[0][n]) == 1)
        n++;
    for (int i = 1; i < 4; i++)
        memcpy(x[i], x[0], n * sizeof *x[0]);
    for (int i = 0; i < 4; i++)
        activate((enum activation)i, x[i], n);
    for (size_t i = 0; i < n; i++)
        printf("%.9g %.9g %.9g %.9g\n", x[0][i], x[1][i], x[2][i], x[3][i]);
    return 0;
}
