#!/usr/bin/env python3
"""Make tests/golden/image_sizes.txt and tests/golden/pictures/: what transformers' Pillow path does with pictures.

    pip install transformers==5.17.0 pillow==13.0.0 numpy
    tests/golden/generate_pictures.py

image_sizes.txt, one case a line:
  target WIDTH HEIGHT TILE MIN_PIXELS MAX_PIXELS WIDTH HEIGHT    smart_resize
  resize WIDTH HEIGHT WIDTH HEIGHT SEED HASH                     64-bit FNV-1a of the bytes of the resized test picture (model_gen.py)
pictures/NAME.EXT is a picture file, pictures/NAME.EXT.rgb what Pillow makes of it: "WIDTH HEIGHT\n" and RGB bytes, EXIF orientation
applied and alpha dropped as transformers' load_image does. JPEG's inverse DCT is not defined to the bit: a few levels apart is equal.
"""
import io
import os
import random
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import model_gen

random.seed(1)


def fnv1a(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & model_gen.MASK
    return h


lines = []
targets = [(32, 32), (112, 80), (150, 100), (320, 240), (640, 480), (1280, 720), (768, 768), (1920, 1080), (3840, 2160), (6000, 4000), (16, 3200),
           (200, 1), (1, 200), (48, 80), (80, 48), (16, 16), (5712, 4284), (16384, 16384)]
targets += [(random.randint(1, 5000), random.randint(1, 5000)) for _ in range(60)]
for w, h in targets:
    for low, high in ((65536, 16777216), (65536, 1048576), (4096, 65536), (1024, 50000)):
        if max(w, h) > 200 * min(w, h):
            continue
        th, tw = smart_resize(h, w, 32, low, high)
        if tw * th <= high:  # the rule may pass its own limit with thin pictures; ours does not (engine/image.h)
            lines.append(f'target {w} {h} 32 {low} {high} {tw} {th}')
sides = [1, 2, 3, 5, 7, 17, 31, 32, 33, 64, 100, 127, 160]
sizes = [(100, 37, 100, 64), (100, 37, 50, 37), (64, 64, 64, 64), (1, 1, 32, 32), (300, 2, 31, 64), (2, 300, 64, 31), (40, 200, 45, 30), (200, 40, 30, 45),
         (640, 360, 320, 192), (257, 129, 96, 64)]
sizes += [tuple(random.choice(sides) for _ in range(4)) for _ in range(60)] + [tuple(random.randint(1, 130) for _ in range(4)) for _ in range(60)]
for i, (w, h, tw, th) in enumerate(sizes):
    out = np.asarray(Image.fromarray(model_gen.picture(w, h, i)).resize((tw, th), Image.BICUBIC))
    lines.append(f'resize {w} {h} {tw} {th} {i} {fnv1a(out.tobytes()):016x}')
with open(os.path.join(here, 'image_sizes.txt'), 'w') as f:
    f.write('\n'.join(lines) + '\n')

folder = os.path.join(here, 'pictures')
os.makedirs(folder, exist_ok=True)


def write(name, data):
    im = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB')
    with open(os.path.join(folder, name), 'wb') as f:
        f.write(data)
    with open(os.path.join(folder, name + '.rgb'), 'wb') as f:
        f.write(b'%d %d\n' % im.size + im.tobytes())


def encode(im, kind, **options):
    b = io.BytesIO()
    im.save(b, kind, **options)
    return b.getvalue()


def exif(orientation):
    e = Image.Exif()
    e[0x112] = orientation
    return e.tobytes()


def png(width, height, depth, colour, raw):
    chunk = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)) +
            chunk(b'IDAT', zlib.compress(raw, 9)) + chunk(b'IEND', b''))


im = Image.fromarray(model_gen.picture(29, 21, 5))
rgba = im.convert('RGBA')
rgba.putalpha(Image.fromarray(model_gen.picture(29, 21, 6)[:, :, 0]))
write('rgb.png', encode(im, 'png'))
write('rgba.png', encode(rgba, 'png'))
write('gray.png', encode(im.convert('L'), 'png'))
write('gray_alpha.png', encode(rgba.convert('LA'), 'png'))
write('palette.png', encode(im.quantize(30), 'png'))
write('palette4.png', encode(im.quantize(7), 'png', bits=4))
write('one_bit.png', encode(im.convert('1'), 'png'))
wide = (model_gen.picture(13, 9, 7).astype('>u2') * 257 + 100).astype('>u2')
write('rgb16.png', png(13, 9, 16, 2, b''.join(b'\0' + row.tobytes() for row in wide)))
write('turned6.png', encode(im, 'png', exif=exif(6)))
for name, sampling in (('444', 0), ('422', 1), ('420', 2)):
    write(f'rgb{name}.jpg', encode(im, 'jpeg', quality=90, subsampling=sampling))
write('progressive.jpg', encode(im, 'jpeg', quality=60, progressive=True))
write('gray.jpg', encode(im.convert('L'), 'jpeg', quality=85))
write('cmyk.jpg', encode(im.convert('CMYK'), 'jpeg', quality=95))
for o in range(1, 9):
    write(f'turned{o}.jpg', encode(im, 'jpeg', quality=90, exif=exif(o)))
write('tiny.jpg', encode(im.crop((0, 0, 3, 2)), 'jpeg', quality=90))
write('lossy.webp', encode(im, 'webp', quality=70))
write('lossless.webp', encode(im, 'webp', lossless=True))
write('alpha.webp', encode(rgba, 'webp', quality=70, exact=True))
write('turned8.webp', encode(im, 'webp', quality=70, exif=exif(8)))
write('rgb.bmp', encode(im, 'bmp'))
write('palette.gif', encode(im.quantize(40), 'gif'))
write('rgb.tiff', encode(im, 'tiff', compression='tiff_lzw'))
write('rgb.ppm', encode(im, 'ppm'))
