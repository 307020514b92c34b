//! The figures of a run, by row, and how they are printed.

/// One row's measurements.
#[derive(Debug, Default)]
struct Row {
    name: String,
    times: Vec<f64>,
    /// Each time's ratios to those of other things in the same round, by what these are.
    ratios: Vec<(&'static str, Vec<f64>)>,
}

/// Every row, in the order they were first measured.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    fn row(&mut self, name: &str) -> &mut Row {
        let place = self.rows.iter().position(|row| row.name == name);
        let place = place.unwrap_or_else(|| {
            self.rows.push(Row { name: name.to_owned(), ..Row::default() });
            self.rows.len() - 1
        });
        &mut self.rows[place]
    }

    /// Notes a measurement.
    pub(crate) fn add(&mut self, name: &str, time: f64) {
        self.row(name).times.push(time);
    }

    /// Notes measurements.
    pub(crate) fn add_all(&mut self, name: &str, times: impl IntoIterator<Item = f64>) {
        self.row(name).times.extend(times);
    }

    /// Notes a measurement and what it must be compared with: its time, and what it is.
    pub(crate) fn compare(&mut self, name: &str, time: f64, other: (f64, &'static str)) {
        self.compare_all(name, time, [other]);
    }

    /// The same with several.
    pub(crate) fn compare_all<const N: usize>(
        &mut self,
        name: &str,
        time: f64,
        others: [(f64, &'static str); N],
    ) {
        let row = self.row(name);
        row.times.push(time);
        for (other, beside) in others {
            let ratio = time / other;
            match row.ratios.iter_mut().find(|(known, _)| *known == beside) {
                Some((_, ratios)) => ratios.push(ratio),
                None => row.ratios.push((beside, vec![ratio])),
            }
        }
    }

    /// Prints every row.
    pub(crate) fn print(&self) {
        for Row { name, times, ratios } in &self.rows {
            let [low, median, high] = spread(times);
            print!("{name:<66}{median:>7.0}  [{low:>5.0} {high:>6.0}]");
            for (beside, ratios) in ratios {
                let [low, median, high] = spread(ratios);
                print!("   {median:.2} [{low:.2} {high:.2}] x {beside}");
            }
            println!();
        }
    }
}

/// Least, median and greatest.
fn spread(values: &[f64]) -> [f64; 3] {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}
