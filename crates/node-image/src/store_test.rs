//! What several do to one store at a time, step by step, and what disks do to it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Barrier,
};

use crate::{
    Digest, Image, ImageError, ImageStore, gc,
    image_test::{docker_save, is_empty, new_store},
    oci::{ConfigFile, RootFs},
    store::NewImage,
};

const NAME: &str = "app:1";

fn import(store: &ImageStore, name: &str) -> Result<Image, ImageError> {
    let images = store.import_reader(&docker_save(&[NAME])[..], "x", Some(name))?;
    Ok(Image::clone(&images[0]))
}

fn is_here(store: &ImageStore) -> bool {
    store.resolve(NAME).expect("valid").is_some()
}

fn record(dir: &Path, image: &Image, extension: &str) -> PathBuf {
    dir.join("images").join(image.id.hex()).with_extension(extension)
}

/// Everything that nothing uses, at once.
fn collect(store: &ImageStore) {
    let request = gc::Request { now: u64::MAX, ..gc::Request::default() };
    store.collect(&request).expect("collected");
}

#[test]
fn a_layer_that_a_pull_counts_on_outlives_a_sweep_that_had_chosen_it() {
    let Some((dir, store)) = new_store() else { return };
    let image = import(&store, NAME).expect("honest");
    drop(store);
    fs::remove_file(record(dir.path(), &image, "json")).expect("there");
    let store = ImageStore::open(dir.path()).expect("the same store");
    let unused = store.unused().expect("readable");
    let [chain] = unused[..] else { panic!("{unused:?}") };
    // A pull that comes now has nothing to fetch.
    let adding = store.adding(&unused);
    assert!(store.layers.info(&chain).is_some());
    store.discard(&chain).expect("left alone");
    assert!(image.layer_dirs[0].join("a").exists());
    drop(adding);
    store.discard(&chain).expect("removed");
    assert!(is_empty(dir.path(), "layers") && is_empty(dir.path(), "tmp"));
}

#[test]
fn an_image_is_not_recorded_without_its_layers() {
    let Some((dir, store)) = new_store() else { return };
    let diff_ids = vec![Digest::of(b"swept")];
    let rootfs = RootFs { kind: "layers".into(), diff_ids };
    let config = ConfigFile { rootfs, ..ConfigFile::default() };
    let added = store.add(NewImage {
        id: Digest::of(b"{}"),
        config: &config,
        config_bytes: b"{}",
        tags: vec!["docker.io/library/app:1".into()],
        digests: Vec::new(),
        pinned: false,
    });
    assert!(matches!(added, Err(ImageError::Io { .. })), "{added:?}");
    assert!(store.list().is_empty() && is_empty(dir.path(), "images"));
}

#[test]
fn an_image_that_lacks_a_layer_is_not_here_and_can_be_had_again() {
    let Some((dir, store)) = new_store() else { return };
    let image = import(&store, NAME).expect("honest");
    let files = &image.layer_dirs[0];
    let layer = files.parent().expect("its folder");
    for gone in [layer, files] {
        fs::remove_dir_all(gone).expect("there");
        assert!(!is_here(&store), "{}", gone.display());
        assert!(store.list().is_empty() && is_empty(dir.path(), "images"));
        import(&store, NAME).expect("honest");
        assert!(is_here(&store) && files.join("a").exists(), "{}", gone.display());
    }
    // What is said of a layer is written anew, and its files stay.
    fs::write(layer.join("layer.json"), "{").expect("writable");
    fs::write(files.join("mark"), "").expect("writable");
    assert!(is_here(&store));
    let again = import(&store, NAME).expect("honest");
    assert!(again.size_bytes > 0 && files.join("mark").exists());
    assert!(is_empty(dir.path(), "tmp"));
}

#[test]
fn names_that_come_at_once_are_all_kept() {
    let Some((dir, store)) = new_store() else { return };
    import(&store, NAME).expect("honest");
    let names: Vec<String> = (1..9).map(|number| format!("app:{number}")).collect();
    let start = Barrier::new(names.len());
    std::thread::scope(|scope| {
        let add = |name| {
            start.wait();
            import(&store, name).expect("honest");
        };
        for name in &names {
            scope.spawn(move || add(name));
        }
    });
    let complete: Vec<_> = names.iter().map(|name| format!("docker.io/library/{name}")).collect();
    assert_eq!(store.list()[0].repo_tags, complete);
    drop(store);
    let store = ImageStore::open(dir.path()).expect("the same store");
    assert_eq!(store.list()[0].repo_tags, complete);
}

#[test]
fn a_damaged_record_is_set_aside_until_its_image_comes_again() {
    let Some((dir, store)) = new_store() else { return };
    let image = import(&store, NAME).expect("honest");
    drop(store);
    let [json, damaged] = ["json", "damaged"].map(|name| record(dir.path(), &image, name));
    for bytes in ["", "{", r#"{"version":0}"#, r#"{"version":1}"#] {
        fs::write(&json, bytes).expect("writable");
        // The second start finds what the first has set aside.
        for start in ["first", "second"] {
            let store = ImageStore::open(dir.path()).expect(start);
            assert!(!is_here(&store) && damaged.exists(), "{bytes:?}, {start}");
            collect(&store);
            assert!(image.layer_dirs[0].join("a").exists(), "containers may run on it");
        }
        let store = ImageStore::open(dir.path()).expect("the same store");
        import(&store, NAME).expect("honest");
        assert!(is_here(&store) && json.exists() && !damaged.exists(), "{bytes:?}");
    }
    let store = ImageStore::open(dir.path()).expect("the same store");
    collect(&store);
    assert!(is_empty(dir.path(), "layers") && is_empty(dir.path(), "images"));
}

#[test]
fn a_record_of_a_newer_version_is_refused_and_stays() {
    let Some((dir, store)) = new_store() else { return };
    drop(store);
    let path = dir.path().join("images").join(Digest::of(b"").hex()).with_extension("json");
    fs::write(&path, r#"{"version":2,"id":{}}"#).expect("writable");
    let refused = ImageStore::open(dir.path()).map(|_| ()).expect_err("newer").to_string();
    assert!(refused.contains("a newer skiff wrote it"), "{refused}");
    assert!(path.exists());
}
