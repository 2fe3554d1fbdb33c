from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

import pytest

from flaskcompat.fork import reset_in_child


class Owner:
    def reset_after_fork(self) -> None:
        pass


def test_owner_is_not_kept() -> None:
    owner = Owner()
    reset_in_child(owner)
    found = weakref.ref(owner)
    del owner
    gc.collect()
    assert found() is None


CHILD = """
import os
from flaskcompat.fork import reset_in_child

class Owner:
    pids = ()
    def reset_after_fork(self):
        self.pids = (*self.pids, os.getpid())

class Broken:
    def reset_after_fork(self):
        raise ValueError("broken")

owners = [Owner(), Broken(), Owner(), Broken(), Owner()]
for owner in owners:
    reset_in_child(owner)
child = os.fork()
mine = [owner.pids for owner in owners if isinstance(owner, Owner)]
if not child:
    os._exit(0 if mine == [(os.getpid(),)] * 3 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert mine == [()] * 3
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_each_owner_is_reset_in_the_child_whatever_happens_to_others() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Broken could not be reset in a forked child") == 2
