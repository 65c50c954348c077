/*
 * noise - values by place that look random and are the same everywhere: what gives surfaces of rendered scenes their texture.
 *
 * Pure, in integers up to the last step; threads: none; memory: none.
 */
#ifndef HERON_PIPELINE_NOISE_H
#define HERON_PIPELINE_NOISE_H

#include <math.h>
#include <stdint.h>

/* 32 bits by a cell of the plane. */
static inline uint32_t noise_hash(uint32_t salt, int a, int b)
{
    uint32_t h = salt ^ (uint32_t)a * 0x9E3779B1u ^ (uint32_t)b * 0x85EBCA77u;
    h = (h ^ h >> 15) * 0x2C1B3C6Du;
    h = (h ^ h >> 12) * 0x297A2D39u;
    return h ^ h >> 15;
}

/* Smooth over the plane, 0 to 1, one bump per unit; |x| and |y| below 2^31. */
static inline double noise_bumps(uint32_t salt, double x, double y)
{
    double fx = floor(x), fy = floor(y), u = x - fx, v = y - fy;
    int ix = (int)fx, iy = (int)fy;
    u = u * u * (3 - 2 * u);
    v = v * v * (3 - 2 * v);
    double a = noise_hash(salt, ix, iy) >> 8, b = noise_hash(salt, ix + 1, iy) >> 8;
    double c = noise_hash(salt, ix, iy + 1) >> 8, d = noise_hash(salt, ix + 1, iy + 1) >> 8;
    return (a + (b - a) * u + (c - a) * v + (a - b - c + d) * u * v) * 0x1p-24;
}

#endif
