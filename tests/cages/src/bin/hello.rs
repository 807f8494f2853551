//! Prints its arguments and its environment.

use cage_libc as _;

fn main() {
    println!("hello from a cage");
    for (index, arg) in std::env::args().enumerate() {
        println!("arg {index} = {arg}");
    }
    for (name, value) in std::env::vars() {
        println!("env {name} = {value}");
    }
}
