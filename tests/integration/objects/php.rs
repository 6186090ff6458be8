//! php-redis, as Magento uses it, sees the same as at redis-server.

use std::path::Path;
use std::process::Command;

use super::Kept;
use crate::support::redis::Redis;

const SCRIPT: &str = r#"
$redis = new Redis();
$redis->connect($argv[1]);
$say = function ($value) {
    if (is_array($value)) { ksort($value); }
    echo json_encode($value), "\n";
};
$say($redis->select(1));
$say($redis->hMSet('zc:k:A', ['d' => str_repeat("\0x", 5000), 't' => 'a,b', 'm' => 1, 'i' => '1']));
$say(strlen($redis->hGet('zc:k:A', 'd')));
$say($redis->hGet('zc:k:A', 'none'));
$say($redis->expire('zc:k:A', 1000));
$say($redis->sAdd('zc:tags', 'a', 'b'));
$pipe = $redis->multi(Redis::PIPELINE);
for ($at = 0; $at < 200; $at++) { $pipe->sAdd('zc:ti:a', "id$at"); $pipe->set("s$at", $at); }
$say(array_sum($pipe->exec()));
$say($redis->multi()->incr('n')->hGetAll('zc:k:B')->unlink('zc:k:A', 's1')->exec());
$redis->watch('n');
$say($redis->multi()->incr('n')->exec());
$tags = $redis->sMembers('zc:tags'); sort($tags); $say($tags);
$say($redis->sInter('zc:ti:a', 'zc:tags'));
$say(count($redis->sUnion('zc:ti:a', 'zc:tags')));
$found = 0; $cursor = null;
while (($keys = $redis->scan($cursor, 's*', 50)) !== false) { $found += count($keys); }
$say($found);
$found = 0; $cursor = null;
while (($ids = $redis->sScan('zc:ti:a', $cursor)) !== false) { $found += count($ids); }
$say($found);
$say($redis->set('x', 'y', ['nx', 'ex' => 100]));
$say($redis->set('x', 'z', ['nx', 'ex' => 100]));
$say($redis->mGet(['x', 'none', 's2']));
$say($redis->setEx('e', 100, 'v'));
$say($redis->ttl('e') > 90);
$say($redis->incrBy('zc:k:C', 3));
$say($redis->hGet('zc:k:C', 'd'));
$say($redis->getLastError());
$say($redis->dbSize());
$say($redis->info('memory')['maxmemory_policy'] != '');
$say(version_compare($redis->info('server')['redis_version'], '5', '>='));
$say($redis->flushDb());
$say($redis->dbSize());
"#;

fn run(socket: &Path) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("client.php");
    std::fs::write(&script, format!("<?php\n{SCRIPT}")).expect("written");
    let output = Command::new("php").arg(&script).arg(socket).output().expect("php runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn php_redis_sees_no_difference() {
    let (kept, redis) = (Kept::start(&[]), Redis::start());
    let ours = run(&kept.socket());
    assert!(ours.lines().count() > 25 && !ours.contains("Warning"), "{ours}");
    assert_eq!(ours, run(&redis.socket()));
}
