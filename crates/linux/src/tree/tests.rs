use std::{fs, os::unix::fs::symlink, path::PathBuf, thread};

use rustix::{
    fs::{mkdirat, renameat},
    mount::{UnmountFlags, mount_bind},
};

use super::*;

/// Deeper than any path, table of descriptors or recursion goes.
const LEVELS: u64 = 20_000;

/// Of a test's own thread: a recursion of as many levels has 13 bytes for each.
const STACK_BYTES: usize = 256 << 10;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, DIRECTORY, Mode::empty()).expect("a directory of ours")
}

/// Directories in each other, all of one name; answers the lowest.
fn deepen(path: &Path, levels: u64) -> OwnedFd {
    let mut dir = open(path);
    for _ in 0..levels {
        mkdirat(&dir, c"d", Mode::RWXU).expect("made");
        dir = enter(&dir, c"d").expect("just made");
    }
    dir
}

/// Runs a story of a tree in a temporary directory with little stack, and removes what is
/// left of it by what is tested here, as the standard library's cannot.
fn with_little_stack(story: impl FnOnce(PathBuf) + Send + 'static) {
    // In memory where that is possible: a disk is busy for seconds with so many.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let dir = dir.expect("a temporary directory").keep();
    let tree = dir.join("tree");
    fs::create_dir(&tree).expect("our own folder");
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || story(tree));
    let end = thread.expect("a thread").join();
    remove(&dir).expect("removed");
    assert!(end.is_ok() && !dir.exists());
}

#[test]
fn a_deep_tree_is_removed() {
    with_little_stack(|tree| {
        let outside = tree.parent().expect("our own folder").join("outside");
        fs::create_dir_all(outside.join("kept")).expect("our own folder");
        let lowest = deepen(&tree, LEVELS);
        openat(&lowest, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("made");
        rustix::fs::symlinkat(&outside, &lowest, c"link").expect("linked");
        // Held open it would keep all above it in the kernel's memory, which makes it slow.
        drop(lowest);
        remove(&tree).expect("removed");
        assert!(!tree.exists() && outside.join("kept").exists());
        remove(&tree).expect("removing what is gone");
    });
}

#[test]
fn a_deep_tree_is_measured_to_its_end() {
    with_little_stack(|tree| {
        let lowest = deepen(&tree, LEVELS);
        let empty = used(&tree).expect("measured");
        assert_eq!(empty.inodes, LEVELS + 1);
        let flags = OFlags::CREATE | OFlags::WRONLY;
        let file = openat(&lowest, c"file", flags, Mode::RUSR).expect("made");
        rustix::io::write(&file, &[1; 100_000]).expect("written");
        let full = used(&tree).expect("measured");
        assert_eq!(full.inodes, empty.inodes + 1);
        assert!((100_000..200_000).contains(&(full.bytes - empty.bytes)), "{full:?}");
    });
}

/// Counts descriptors on the way back, and directories that are beside the way.
#[derive(Default)]
struct Counting {
    descriptors_max: usize,
    left: u64,
}

impl Visit for Counting {
    fn entry(&mut self, _: BorrowedFd<'_>, _: &CStr, kind: FileType) -> Result<bool> {
        Ok(kind == FileType::Directory)
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr, dir: BorrowedFd<'_>) -> Result<()> {
        let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        assert_eq!(found.st_ino, fstat(dir)?.st_ino, "{name:?}");
        self.left += 1;
        if self.left.is_multiple_of(100) {
            let open = fs::read_dir("/proc/self/fd").expect("procfs").count();
            self.descriptors_max = self.descriptors_max.max(open);
        }
        Ok(())
    }
}

#[test]
fn descriptors_are_few_and_ways_back_right() {
    with_little_stack(|tree| {
        // Forks at many levels, each itself deeper than what is held open.
        let mut dir = open(&tree);
        for level in 0..2_000 {
            mkdirat(&dir, c"d", Mode::RWXU).expect("made");
            if level % 200 == 0 {
                mkdirat(&dir, c"fork", Mode::RWXU).expect("made");
                let mut fork = enter(&dir, c"fork").expect("just made");
                for _ in 0..99 {
                    mkdirat(&fork, c"f", Mode::RWXU).expect("made");
                    fork = enter(&fork, c"f").expect("just made");
                }
            }
            dir = enter(&dir, c"d").expect("just made");
        }
        let mut counting = Counting::default();
        walk(open(&tree), &mut counting).expect("walked");
        assert_eq!(counting.left, 2_000 + 10 * 100);
        // Other tests hold some.
        assert!(counting.descriptors_max < 500, "{}", counting.descriptors_max);
    });
}

/// Moves a directory that the walk is deep in.
struct Moving {
    outside: OwnedFd,
    tree: OwnedFd,
    left: Vec<CString>,
}

impl Visit for Moving {
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, _: FileType) -> Result<bool> {
        if name == c"lowest" {
            renameat(&self.tree, c"d", &self.outside, c"moved")?;
            return Ok(false);
        }
        statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|_| true)
    }

    fn left(&mut self, parent: BorrowedFd<'_>, name: &CStr, _: BorrowedFd<'_>) -> Result<()> {
        assert_ne!(fstat(parent)?.st_ino, fstat(&self.outside)?.st_ino);
        self.left.push(name.to_owned());
        Ok(())
    }
}

#[test]
fn what_is_moved_away_leads_nowhere_else() {
    with_little_stack(|tree| {
        let outside = tree.parent().expect("our own folder").join("outside");
        fs::create_dir(&outside).expect("our own folder");
        for (levels, way_back) in [(20, Ok(())), (200, Err(Errno::STALE))] {
            let lowest = deepen(&tree, levels);
            mkdirat(&lowest, c"lowest", Mode::RWXU).expect("made");
            let mut moving =
                Moving { outside: open(&outside), tree: open(&tree), left: Vec::new() };
            assert_eq!(walk(open(&tree), &mut moving), way_back, "{levels} levels");
            remove(&outside.join("moved")).expect("removed");
        }
    });
}

#[test]
fn a_tree_goes_and_what_links_lead_to_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let (outside, tree) = (dir.path().join("outside"), dir.path().join("tree"));
    fs::create_dir_all(outside.join("kept")).expect("made");
    fs::create_dir_all(tree.join("a/b")).expect("made");
    fs::write(tree.join("a/b/file"), "x").expect("written");
    symlink(&outside, tree.join("a/link")).expect("linked");
    remove(&tree).expect("removed");
    assert!(!tree.exists() && outside.join("kept").exists());
    symlink(&outside, &tree).expect("linked");
    assert_eq!(used(&tree).expect("measured").inodes, 2, "a link in the way is followed");
    remove(&tree).expect("removed");
    assert!(!tree.is_symlink() && outside.join("kept").exists());
    remove(&dir.path().join("none/x")).expect("removing what is in nothing");
}

#[test]
fn a_tree_is_measured_and_each_file_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("a")).expect("made");
    let empty = used(&tree).expect("measured");
    fs::write(tree.join("a/file"), vec![1; 100_000]).expect("written");
    fs::hard_link(tree.join("a/file"), tree.join("again")).expect("linked");
    symlink("/", tree.join("link")).expect("linked");
    let full = used(&tree).expect("measured");
    assert_eq!(full.inodes, empty.inodes + 2, "one file and one link");
    assert!((100_000..200_000).contains(&(full.bytes - empty.bytes)), "{full:?}");
    assert_eq!(used(&dir.path().join("gone")).expect("nothing"), Used::default());
}

#[test]
fn what_is_mounted_below_is_neither_emptied_nor_counted() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
    fs::create_dir_all(&data).expect("made");
    fs::write(data.join("precious"), "x").expect("written");
    let at = tree.join("mounted");
    fs::create_dir_all(&at).expect("made");
    // A bind mount of the same file system: the device does not tell.
    mount_bind(&data, &at).expect("mounted");
    let (measured, below, itself) = (used(&tree), remove(&tree), remove(&at));
    rustix::mount::unmount(&at, UnmountFlags::DETACH).expect("unmounted");
    assert_eq!(measured.expect("measured").inodes, 1);
    for refused in [below, itself] {
        assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::CrossesDevices);
    }
    assert!(data.join("precious").exists());
}
