//! Forks; the child exits with 7; prints how the parent saw it end.

use cage_libc::sys;

fn main() {
    let mut number = std::hint::black_box(35);
    match sys::fork() {
        Ok(0) => {
            // The child has a copy of the memory, not the memory.
            number /= 5;
            sys::exit(number);
        }
        Ok(child) => {
            let ended = sys::waitpid(child, 0);
            let same = ended.is_ok_and(|(pid, _)| pid == child);
            let status = ended.map_or(-1, |(_, status)| status);
            println!(
                "number {number}, child waited for {same}, exit status {}",
                status >> 8
            );
        }
        Err(error) => println!("fork: {error:?}"),
    }
}
