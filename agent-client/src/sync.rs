//! Locks held for moments: no await under them, and a panic elsewhere does not spread through them.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// Locks; a poisoned lock is opened, because each critical section leaves its data whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy of what is inside.
pub(crate) fn get<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Replaces what is inside.
pub(crate) fn set<T>(lock: &RwLock<T>, value: T) {
    *lock.write().unwrap_or_else(PoisonError::into_inner) = value;
}

/// The system's random generator. It fails only where nothing that needs keys could go on.
pub(crate) fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}
