//! How long looking takes, by a clock that only requests turn.

use std::time::Duration;

use tokio::time::Instant;

use super::*;

#[test]
fn the_first_look_at_ten_thousand_tasks_takes_three_seconds_at_most() {
    run(async {
        let store = Arc::new(Slow {
            takes: Duration::from_millis(20),
            ..Slow::default()
        });
        let bytes = encode(&snapshot([("out/f", file("text"))]), Format::V2023_03_03).unwrap();
        for number in 0..10_000 {
            let root = [ROOT, "/mnt/show/textures"][usize::from(number % 100 == 0)];
            let made = Made {
                task: Some(number),
                run: number,
                root,
                ..FIRST
            };
            store.publish_bytes(made, bytes.clone()).await;
        }
        let client = Client::over(&store);
        let begun = Instant::now();
        assert_eq!(client.ls("latest").await, ["project", "textures"]);
        let names = begun.elapsed();
        assert_eq!(client.ls("latest/project/out").await, ["f"]);
        let files = begun.elapsed();
        println!("names after {names:?}, files after {files:?}");
        assert!(names <= Duration::from_secs(3), "{names:?}");
        assert!(files <= Duration::from_secs(6), "{files:?}");
        let tasks = format!("by-step/{}", step(1));
        assert_eq!(client.ls(&tasks).await.len(), 10_000);
    });
}
