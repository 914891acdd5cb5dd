"""The tree that `meson install` makes of a build, in a folder of its own, for the tests that see only that tree.

  with installed(build) as tree: ...     tree.prefix, tree.include, tree.lib, tree.pkg_config(), tree.run(...)

Nothing is built. The log of an earlier `meson install`, which `ninja uninstall` goes by, is as it was afterwards."""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import tempfile


class Tree:
  def __init__(self, build, destdir, options):
    self.build, self.destdir = build, destdir
    self.prefix = pathlib.Path(f"{destdir}{options['prefix']}")
    self.include, self.lib = (self.prefix / options[name] for name in ("includedir", "libdir"))
    self.header_dir = self.include / "flashladder"
    self.shared, self.static = self.lib / "libflashladder.so", self.lib / "libflashladder.a"

  def environment(self):
    """What a user whose tree is not where the system looks sets: pkg-config's path, CMake's, and the loader's."""
    return os.environ | {"PKG_CONFIG_PATH": str(self.lib / "pkgconfig"), "CMAKE_PREFIX_PATH": str(self.prefix),
                         "LD_LIBRARY_PATH": str(self.lib)}

  def pkg_config(self, *what):
    done = subprocess.run(["pkg-config", *what, "flashladder"], env=self.environment(), capture_output=True, text=True)
    if done.returncode:
      raise RuntimeError(f"pkg-config {' '.join(what)}: {done.stderr}")
    return done.stdout.split()

  def link_flags(self, static):
    """Of a program with the shared library; or with the archive, although the shared library lies beside it."""
    if not static:
      return self.pkg_config("--libs")
    return [str(self.static), *(flag for flag in self.pkg_config("--static", "--libs") if flag != "-lflashladder")]

  def run(self, command, cwd, **options):
    return subprocess.run([str(word) for word in command], cwd=cwd, env=self.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)


def options_of(build):
  told = subprocess.run(["meson", "introspect", build, "--buildoptions"], check=True, capture_output=True, text=True).stdout
  return {option["name"]: option["value"] for option in json.loads(told)}


@contextlib.contextmanager
def installed(build):
  build = pathlib.Path(build).resolve()
  log = build / "meson-logs" / "install-log.txt"
  with tempfile.TemporaryDirectory() as folder, open(build / "meson-logs" / "installing.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: there is one log
    earlier = log.read_bytes() if log.is_file() else None
    try:
      done = subprocess.run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", folder], capture_output=True,
                            text=True)
      if done.returncode:
        raise RuntimeError(f"meson install: {done.stdout[-2000:]}{done.stderr}")
      tree = Tree(build, folder, options_of(build))
      tree.installing_log = log.read_text()
    finally:
      restore(log, earlier)
    fcntl.flock(lock, fcntl.LOCK_UN)
    yield tree


def restore(log, earlier):
  if earlier is None:
    log.unlink(missing_ok=True)
  else:
    log.write_bytes(earlier)


def uninstall(tree):
  """What `ninja uninstall` does with the log of this very installation."""
  log = tree.build / "meson-logs" / "install-log.txt"
  with open(tree.build / "meson-logs" / "installing.lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    earlier = log.read_bytes() if log.is_file() else None
    try:
      log.write_text(tree.installing_log)
      return subprocess.run(["ninja", "-C", tree.build, "uninstall"], capture_output=True, text=True)
    finally:
      restore(log, earlier)


def copy_of(tree, folder):
  """The tree in another place, to be damaged there; it also shows that it may be moved."""
  shutil.copytree(tree.destdir, folder, symlinks=True, dirs_exist_ok=True)
  options = options_of(tree.build)
  return Tree(tree.build, str(folder), options)
