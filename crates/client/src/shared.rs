//! One informer for each selection and view in a process.

use std::{
    any::{Any, TypeId},
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinHandle;

use crate::{Ambient, Api, BoxFuture, Informer, Selection, View};

struct Running {
    informer: Box<dyn Any + Send + Sync>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The informers of a process, each started when first asked for and stopped
/// when the last clone of this goes. Cheap to clone.
#[derive(Clone)]
pub struct SharedInformers {
    api: Api,
    ambient: Ambient,
    running: Arc<Mutex<BTreeMap<(Selection, TypeId), Running>>>,
}

impl fmt::Debug for SharedInformers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedInformers")
    }
}

impl SharedInformers {
    /// Nothing runs yet.
    pub fn new(api: Api, ambient: Ambient) -> Self {
        Self { api, ambient, running: Arc::default() }
    }

    /// The informer of a selection with a view; starts it on the current
    /// tokio runtime where nobody asked for it before.
    pub fn get<V: View>(&self, selection: Selection) -> Informer<V> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = running.entry((selection.clone(), TypeId::of::<V>())).or_insert_with(|| {
            let informer = Informer::<V>::new(selection);
            let (api, ambient, started) =
                (self.api.clone(), self.ambient.clone(), informer.clone());
            // Boxed, so that there is one kind of task and not one for each view.
            let run: BoxFuture<()> = Box::pin(async move { started.run(&api, &ambient).await });
            let task = tokio::spawn(run);
            Running { informer: Box::new(informer), task }
        });
        let informer = entry.informer.downcast_ref::<Informer<V>>();
        informer.expect("the key holds the view's type").clone()
    }
}
