/* race.c - a sum with a data race: `make tsan` only means something as long as it reports this. */
#include <stdio.h>

int main(void)
{
    double sum = 0;

#pragma omp parallel for num_threads(3)
    for (int i = 0; i < 1000; i++)
        sum += i;
    printf("%g\n", sum);
    return 0;
}
