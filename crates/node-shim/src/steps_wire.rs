//! Steps as bytes. Tags are never reused; a new step gets a new one, and with
//! it the protocol a new version.

use linux::steps::{BindSource, Step};

use crate::wire_enum;

wire_enum!(BindSource {
    1 => Path(path),
    2 => Below(path, sub),
    3 => Held(number),
});

wire_enum!(Step {
    1 => JoinCgroup { entrance },
    2 => EnterNamespace { path, kind },
    3 => EnterTarget { kinds },
    4 => Unshare { kinds },
    5 => WriteFile { path, value, tolerate },
    6 => HoldTree { source },
    7 => SlaveMounts,
    8 => Overlay { lower, upper, work, target },
    9 => OpenRoot { path },
    10 => Directory { dest, mode },
    11 => MountFs { fstype, dest, follow, options, attributes },
    12 => Bind { source, dest, recursive, attributes, propagation },
    13 => Symlink { target, dest },
    14 => Device { dest, mode, major, minor },
    15 => Mask { dest },
    16 => ReadOnlyPath { dest },
    17 => ReadOnlyMount { dest },
    18 => Pivot,
    19 => Rlimit { resource, soft, hard },
    20 => Terminal { uid, rows, columns, console },
    21 => NewSession,
    22 => CloseFiles,
    23 => Chdir { path },
    24 => BoundingSet { keep },
    25 => Identity { uid, gid, groups },
    26 => Capabilities { set },
    27 => NoNewPrivileges,
    28 => Seccomp { program },
    29 => Exec { programs, args, env },
    30 => Init,
    31 => UseIds { userns },
    32 => MapTree { path },
    33 => OwnStreams { uid },
    34 => EnterUser,
    35 => BindReadOnlyTop { source, dest, propagation },
});
