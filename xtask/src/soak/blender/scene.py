"""Makes the scene that `cargo xtask soak --blender` renders: blender --background --python scene.py -- DIR

    scene.blend                links objects of two libraries; has a ground of its own
    libraries/props.blend      a crate (linked), a spare (not linked)
    libraries/tower.blend      a tower (linked)
    libraries/unused.blend     nothing links anything of it
    textures/ground.png        of the scene; longer than 8 MiB
    textures/{crate,tower}.png of the linked objects
    textures/spare.png         of the object that is not linked
    textures/unused.png        of nothing

All paths are relative. The textures are noise, which does not get shorter by compression.
"""

import os
import random
import struct
import sys
import zlib

import bpy

SAMPLES = 8
SEED = 11


def write_png(path, side, seed):
    """RGB, 8 bits, noise by the seed."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    dice = random.Random(seed)
    rows = b"".join(b"\0" + dice.randbytes(3 * side) for _ in range(side))
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)))
        file.write(chunk(b"IDAT", zlib.compress(rows, 1)))
        file.write(chunk(b"IEND", b""))


def textured(name, path):
    """A material whose colour is the image of this path, which is relative to the file that is saved."""
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree
    image = nodes.nodes.new("ShaderNodeTexImage")
    image.image = bpy.data.images.new(name, 1, 1)
    image.image.source = "FILE"
    image.image.filepath = path
    # Without the noise being averaged away.
    image.interpolation = "Closest"
    shader = nodes.nodes["Principled BSDF"]
    nodes.links.new(image.outputs["Color"], shader.inputs["Base Color"])
    return material


def shape(name, add, material, **where):
    add(**where)
    made = bpy.context.object
    made.name = name
    made.data.materials.append(material)
    return made


def empty_file():
    bpy.ops.wm.read_factory_settings(use_empty=True)


def save(path):
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=path, relative_remap=False)


def library(path, objects):
    """Objects keep the place that they have here where they are linked."""
    empty_file()
    for name, add, texture, place in objects:
        shape(name, add, textured(name, "//../textures/" + texture), location=place)
    save(path)


def link(path, name):
    """Links an object of a library that lies beside the scene, into the scene's collection."""
    with bpy.data.libraries.load(path, link=True, relative=True) as (there, wanted):
        assert name in there.objects, f"{path} has no {name}"
        wanted.objects = [name]
    linked = wanted.objects[0]
    bpy.context.scene.collection.objects.link(linked)


def set_up_render(render):
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    scene.cycles.device = "CPU"
    scene.cycles.samples = SAMPLES
    scene.cycles.seed = SEED
    scene.cycles.use_animated_seed = False
    scene.cycles.use_adaptive_sampling = False
    scene.cycles.use_denoising = False
    render.resolution_x, render.resolution_y = 320, 180
    render.resolution_percentage = 100
    render.image_settings.file_format = "PNG"
    render.image_settings.color_mode = "RGB"
    # Nothing of when, where and for how long it was rendered gets into the picture's file.
    for name in dir(render):
        if name.startswith("use_stamp"):
            setattr(render, name, False)
    render.use_file_extension = True


def main(root):
    textures = os.path.join(root, "textures")
    libraries = os.path.join(root, "libraries")
    for folder in (textures, libraries):
        os.makedirs(folder)
    for seed, (name, side) in enumerate(
        [("ground", 2048), ("crate", 512), ("tower", 512), ("spare", 512), ("unused", 512)]
    ):
        write_png(os.path.join(textures, name + ".png"), side, seed)

    cube = bpy.ops.mesh.primitive_cube_add
    cone = bpy.ops.mesh.primitive_cone_add
    for name, objects in {
        "props": [
            ("Crate", cube, "crate.png", (0, 0, 0)),
            ("Spare", cube, "spare.png", (3, 0, 0)),
        ],
        "tower": [("Tower", cone, "tower.png", (-2.5, 1, 0))],
        "unused": [("Unused", cube, "unused.png", (0, 3, 0))],
    }.items():
        library(os.path.join(libraries, name + ".blend"), objects)

    empty_file()
    # Saved first: what is relative is relative to a file.
    scene_file = os.path.join(root, "scene.blend")
    save(scene_file)
    ground = textured("Ground", "//textures/ground.png")
    shape("Ground", bpy.ops.mesh.primitive_plane_add, ground, size=12, location=(0, 0, -1))
    link(os.path.join(libraries, "props.blend"), "Crate")
    link(os.path.join(libraries, "tower.blend"), "Tower")
    bpy.ops.object.light_add(type="SUN", rotation=(0.6, 0.2, 0.4))
    bpy.context.object.data.energy = 3
    bpy.ops.object.camera_add(location=(7, -7, 5), rotation=(1.1, 0, 0.785))
    bpy.context.scene.camera = bpy.context.object
    bpy.context.scene.world = bpy.data.worlds.new("World")
    set_up_render(bpy.context.scene.render)
    save(scene_file)


main(sys.argv[sys.argv.index("--") + 1])
