//! What is printed.

use serde_json::json;

use super::super::median;
use super::{LOADS, Seen, Turn};

/// Prints each contestant beside ours, load by load.
pub fn print(names: &[&str], seen: &Seen, as_json: bool) {
    for (load, contestants) in LOADS.iter().zip(seen) {
        if !as_json {
            println!("\n{}", load.name);
        }
        for (contestant, rounds) in names.iter().zip(contestants) {
            let of = |figure: fn(&Turn) -> f64| median(rounds.iter().map(figure));
            let per_second = of(|turn| turn.figures.per_second);
            let (p50, p99) = (of(|turn| turn.figures.p50_us), of(|turn| turn.figures.p99_us));
            let [_, processor, _] = median(rounds.iter().filter_map(|turn| turn.processor_us));
            // Within a round, so that the machine's moods cancel out.
            let ours = contestants.first().into_iter().flatten();
            let rates = ours.zip(rounds).map(|(ours, other)| (&ours.figures, &other.figures));
            let ratio = median(rates.map(|(ours, other)| ours.per_second / other.per_second));
            if as_json {
                let figures = json!({
                    "load": load.name, "contestant": contestant, "perSecond": per_second, "p50Us": p50,
                    "p99Us": p99, "processorUs": processor, "oursOverIt": ratio,
                });
                println!("{figures}");
            } else {
                let [least, middle, most] = per_second;
                let ([_, p50, _], [_, p99, _], [low, times, high]) = (p50, p99, ratio);
                print!("  {contestant:<26} {middle:>8.0} a second ({least:.0} to {most:.0})  ");
                print!("p50 {p50:>7.0} us  p99 {p99:>7.0} us  ");
                if processor.is_finite() {
                    print!("processors {processor:>4.0} us each  ");
                }
                println!("ours {times:.2} times ({low:.2} to {high:.2})");
            }
        }
    }
}
