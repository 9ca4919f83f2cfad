//! Bounded channels as crossbeam has them, made of loom's locks. Time is no part of the model: a timeout may come at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError};
use loom::sync::{Condvar, Mutex, MutexGuard};
use loom::thread::yield_now;

/// Makes a channel.
pub(in crate::shard) fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), room, is_sent_to: true, is_read: true };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

pub(in crate::shard) struct Sender<T>(Arc<Shared<T>>);

pub(in crate::shard) struct Receiver<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    room: usize,
    is_sent_to: bool,
    is_read: bool,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("no thread panics with it")
    }

    /// Does something as soon as it gives a value.
    fn when<R>(&self, mut act: impl FnMut(&mut State<T>) -> Option<R>) -> R {
        let mut state = self.state();
        loop {
            if let Some(done) = act(&mut state) {
                self.changed.notify_all();
                return done;
            }
            state = self.changed.wait(state).expect("no thread panics with it");
        }
    }
}

impl<T> Sender<T> {
    pub(in crate::shard) fn send(&self, value: T) -> Result<(), SendError<T>> {
        let mut value = Some(value);
        self.0.when(|state| {
            if state.is_read && state.queue.len() == state.room {
                return None;
            }
            let value = value.take()?;
            if !state.is_read {
                return Some(Err(SendError(value)));
            }
            state.queue.push_back(value);
            Some(Ok(()))
        })
    }

    pub(in crate::shard) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state();
        if !state.is_read {
            return Err(TrySendError::Disconnected(value));
        }
        if state.queue.len() == state.room {
            return Err(TrySendError::Full(value));
        }
        state.queue.push_back(value);
        self.0.changed.notify_all();
        Ok(())
    }

    pub(in crate::shard) fn send_timeout(&self, value: T, _: Duration) -> Result<(), SendTimeoutError<T>> {
        yield_now();
        self.try_send(value).map_err(|refused| match refused {
            TrySendError::Full(value) => SendTimeoutError::Timeout(value),
            TrySendError::Disconnected(value) => SendTimeoutError::Disconnected(value),
        })
    }

    pub(in crate::shard) fn is_full(&self) -> bool {
        let state = self.0.state();
        state.queue.len() == state.room
    }

    pub(in crate::shard) fn len(&self) -> usize {
        self.0.state().queue.len()
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.state().is_sent_to = false;
        self.0.changed.notify_all();
    }
}

impl<T> Receiver<T> {
    pub(in crate::shard) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state();
        let next = state.queue.pop_front();
        self.0.changed.notify_all();
        next.ok_or(if state.is_sent_to { TryRecvError::Empty } else { TryRecvError::Disconnected })
    }

    pub(in crate::shard) fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        yield_now();
        self.try_recv().map_err(|none| match none {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    pub(in crate::shard) fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.0.state().queue.is_empty()
    }

    pub(in crate::shard) fn is_full(&self) -> bool {
        let state = self.0.state();
        state.queue.len() == state.room
    }
}

impl<T> Iterator for &Receiver<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.when(|state| match state.queue.pop_front() {
            None if state.is_sent_to => None,
            next => Some(next),
        })
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_read = false;
        state.queue.clear();
        drop(state);
        self.0.changed.notify_all();
    }
}
