/*
 * scene - draw one frame of the synthetic camera: a PPM picture, and the truth about it on standard output.
 *
 *   scene OUT.ppm [SEED] [SECONDS]
 */
#include <stdio.h>
#include <stdlib.h>

#include "pipeline/scene.h"

#define WIDTH_PX  640
#define HEIGHT_PX 360

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: scene OUT.ppm [SEED] [SECONDS]\n");
        return 64;
    }
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 7;
    const double t_s = argc > 3 ? strtod(argv[3], NULL) : 40;
    struct err err = {0};
    struct scene *scene = NULL;
    static uint8_t rgb[WIDTH_PX * HEIGHT_PX * 3];
    char truth[4096];
    if (scene_open("yard", seed, WIDTH_PX, HEIGHT_PX, &scene, &err) != 0) {
        fprintf(stderr, "scene: %s\n", err.text);
        return 70;
    }
    scene_draw(scene, 0, t_s, rgb, WIDTH_PX * 3, truth, sizeof truth);
    scene_close(scene);
    FILE *f = fopen(argv[1], "wb");
    const int ok = f && fprintf(f, "P6\n%d %d\n255\n", WIDTH_PX, HEIGHT_PX) > 0 && fwrite(rgb, sizeof rgb, 1, f) == 1;
    if ((f && fclose(f) != 0) || !ok) {
        perror(argv[1]);
        return 74;
    }
    printf("truth:      %s\n", truth);
    return 0;
}
