//! `threads WHAT ARGS...`: things that several threads of a program do at once.

use cage_libc as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["count"] => count(),
        _ => Err("what?".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("threads: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Threads that count, threads of threads, a channel, thread-locals and their destructors.
fn count() -> Result<(), String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    struct Local(u32);
    impl Drop for Local {
        fn drop(&mut self) {
            DROPPED.fetch_add(self.0, Ordering::SeqCst);
        }
    }
    thread_local!(static LOCAL: std::cell::RefCell<Local> = const { std::cell::RefCell::new(Local(0)) });
    let (send, receive) = mpsc::channel();
    let threads: Vec<_> = (0..8)
        .map(|index| {
            let send = send.clone();
            thread::spawn(move || {
                LOCAL.with_borrow_mut(|local| local.0 += 1);
                for _ in 0..10_000 {
                    COUNT.fetch_add(1, Ordering::SeqCst);
                }
                let inner = thread::spawn(move || index * 2);
                let doubled = inner.join().unwrap();
                send.send(vec![doubled; 100]).unwrap();
                index
            })
        })
        .collect();
    drop(send);
    let sum: u32 = receive.iter().flatten().sum();
    let indices: u32 = threads.into_iter().map(|one| one.join().unwrap()).sum();
    let got = (
        COUNT.load(Ordering::SeqCst),
        sum,
        indices,
        DROPPED.load(Ordering::SeqCst),
    );
    if got != (80_000, 5600, 28, 8) {
        return Err(format!("{got:?}"));
    }
    // One after another, and some that nobody waits for.
    for round in 0..200 {
        let one = thread::spawn(move || round);
        if round % 3 == 0 {
            drop(one);
        } else if one.join().unwrap() != round {
            return Err(format!("round {round}"));
        }
    }
    println!("counted");
    Ok(())
}
