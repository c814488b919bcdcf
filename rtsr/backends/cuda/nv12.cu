// Between NVIDIA's picture formats and rtsr's planes.
//
// NV12, P010 and P016: luma, then U and V by turns at half size, each row `pitch` bytes after the one before; samples of
// more than 8 bits lie in the high bits of 16. rtsr: planes without padding, samples in the low bits.
// One thread for each sample of luma, or for each pair of chroma. `shift`: 16 less the bits of a sample; 0 for 8 bits.
// No headers: NVRTC compiles this, and so does any C compiler in tests/test_nv12.py.

#ifdef __cplusplus
#define KERNEL extern "C" __global__ void
#else
#define KERNEL void
#endif
#define COLUMN ((int)(blockIdx.x * blockDim.x + threadIdx.x))
#define ROW ((int)(blockIdx.y * blockDim.y + threadIdx.y))
#define AT(type, rows, pitch, y) ((type *)((unsigned char *)(rows) + (long long)(y) * (pitch)))

// Where a row or column beyond the picture's rim is read: mirrored, the outermost included, as often as it takes.
#ifdef __cplusplus
__device__
#endif
static int mirrored(int at, int size)
{
    int around = at % (2 * size);
    if (around < 0) around += 2 * size;
    return around < size ? around : 2 * size - 1 - around;
}

#define KERNELS(type, bits)                                                                                          \
    /* from: height rows of width samples. to: the same with `border` mirrored samples on each side. */              \
    KERNEL take_luma_##bits(const void *from, long long pitch, int width, int height, int border, int shift, type *to) \
    {                                                                                                                \
        int x = COLUMN, y = ROW;                                                                                     \
        if (x >= width + 2 * border || y >= height + 2 * border) return;                                             \
        const type *row = AT(const type, from, pitch, mirrored(y - border, height));                                 \
        to[(long long)y * (width + 2 * border) + x] = (type)(row[mirrored(x - border, width)] >> shift);             \
    }                                                                                                                \
    /* from: height rows of width pairs. to: a plane of U, then one of V. */                                         \
    KERNEL take_chroma_##bits(const void *from, long long pitch, int width, int height, int shift, type *to)          \
    {                                                                                                                \
        int x = COLUMN, y = ROW;                                                                                     \
        if (x >= width || y >= height) return;                                                                       \
        const type *row = AT(const type, from, pitch, y);                                                            \
        long long at = (long long)y * width + x;                                                                     \
        to[at] = (type)(row[2 * x] >> shift);                                                                        \
        to[at + (long long)height * width] = (type)(row[2 * x + 1] >> shift);                                        \
    }                                                                                                                \
    KERNEL give_luma_##bits(const type *from, int width, int height, int shift, void *to, long long pitch)            \
    {                                                                                                                \
        int x = COLUMN, y = ROW;                                                                                     \
        if (x >= width || y >= height) return;                                                                       \
        AT(type, to, pitch, y)[x] = (type)(from[(long long)y * width + x] << shift);                                 \
    }                                                                                                                \
    KERNEL give_chroma_##bits(const type *from, int width, int height, int shift, void *to, long long pitch)          \
    {                                                                                                                \
        int x = COLUMN, y = ROW;                                                                                     \
        if (x >= width || y >= height) return;                                                                       \
        long long at = (long long)y * width + x;                                                                     \
        type *row = AT(type, to, pitch, y);                                                                          \
        row[2 * x] = (type)(from[at] << shift);                                                                      \
        row[2 * x + 1] = (type)(from[at + (long long)height * width] << shift);                                      \
    }

KERNELS(unsigned char, 8)
KERNELS(unsigned short, 16)
