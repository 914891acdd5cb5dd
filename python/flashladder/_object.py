"""What the classes of plan and run have in common: a handle of the library's, and the memory that it works in."""
from . import _structs as s
from ._arrays import aligned
from ._library import InputError, lib, text_of


class PlannedObject:
    """An object of the library that plan() makes, and makes anew for a larger batch.

    family, device, on_gpu say where it is.
    _NAME names its functions: fl_<name>_explain, fl_<name>_destroy.
    """
    _NAME = ""
    _handle = None

    def explain(self):
        """Who computes, and why nobody faster."""
        self._must_be_planned("explain()")
        return text_of(f"fl_{self._NAME}_explain", self._handle)

    def close(self):
        """Gives the object and its memory back. Waits for copies of plans that are under way."""
        handle, self._handle = self._handle, None
        if handle is not None:
            getattr(lib, f"fl_{self._NAME}_destroy")(handle)

    def __del__(self):
        self.close()

    def _must_be_planned(self, call):
        if self._handle is None:
            raise InputError(f"{call} must come after plan()")

    def _stream(self):
        return self.family.stream(self.device) if self.on_gpu else None

    def _workspace(self, device_bytes, staging_bytes):
        """(fl_workspace, the arrays that it points into)."""
        memory = self.family.bytes(device_bytes, self.device)
        staging = self.family.pinned(staging_bytes) if staging_bytes else None
        workspace = s.Workspace(device=aligned(memory), device_bytes=device_bytes)
        if staging is not None:
            workspace.staging, workspace.staging_bytes = aligned(staging), staging_bytes
        return workspace, (memory, staging)
