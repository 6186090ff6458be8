<?php
// Symfony's adapters over php-redis, told to do what a shop does with tags. Prints what they answer.

require 'Symfony/Component/Cache/autoload.php';

use Symfony\Component\Cache\Adapter\RedisAdapter;
use Symfony\Component\Cache\Adapter\RedisTagAwareAdapter;
use Symfony\Component\Cache\Adapter\TagAwareAdapter;

error_reporting(E_ALL & ~E_DEPRECATED);
$connect = function () use ($argv) {
    $redis = new Redis();
    $redis->connect($argv[1]);
    return $redis;
};
$say = function (string $what, $value) {
    echo $what, ' ', json_encode($value), "\n";
};

// What is there of items 0 to 39.
$there = function ($cache): string {
    $found = str_repeat('.', 40);
    foreach ($cache->getItems(array_map(fn ($at) => "item$at", range(0, 39))) as $key => $item) {
        $found[(int) substr($key, 4)] = $item->isHit() ? 'x' : '.';
    }
    return $found;
};
$fill = function ($cache) {
    for ($at = 0; $at < 40; $at++) {
        $item = $cache->getItem("item$at")->set(['at' => $at, 'text' => str_repeat('é', $at * 50)]);
        $item->tag(['all', 'third' . $at % 3, $at % 2 ? 'odd' : 'even']);
        $item->expiresAfter($at % 5 ? 1000 : null);
        $cache->saveDeferred($item);
    }
    return $cache->commit();
};

$play = function (string $name, $cache) use ($say, $there, $fill) {
    $say("$name: saved", $fill($cache));
    $say("$name: there", $there($cache));
    $say("$name: value", crc32(json_encode($cache->getItem("item7")->get())));
    $say("$name: tags", array_values($cache->getItem('item7')->getMetadata()['tags'] ?? []));
    $say("$name: cleaned", $cache->invalidateTags(['third1']));
    $say("$name: there", $there($cache));
    $say("$name: cleaned", $cache->invalidateTags(['none', 'odd']));
    $say("$name: there", $there($cache));
    // Another tag than before.
    $item = $cache->getItem('item6')->set('anew');
    $say("$name: saved", $cache->save($item->tag('another')));
    $say("$name: cleaned", $cache->invalidateTags(['even']));
    $say("$name: there", $there($cache));
    $say("$name: value", $cache->getItem('item6')->get());
    $say("$name: computed", $cache->get('computed', function ($item) {
        $item->tag('all');
        return 42;
    }));
    $say("$name: computed", $cache->get('computed', fn () => 43));
    $say("$name: deleted", $cache->deleteItems(['item6', 'computed', 'never']));
    $say("$name: has", [$cache->hasItem('item6'), $cache->hasItem('computed')]);
    $say("$name: saved", $fill($cache));
    $say("$name: cleared", $cache->clear('item3'));
    $say("$name: there", $there($cache));
    $say("$name: cleaned", $cache->invalidateTags(['all']));
    $say("$name: there", $there($cache));
    $say("$name: saved", $fill($cache));
    $say("$name: cleared", $cache->clear());
    $say("$name: there", $there($cache));
};

switch ($argv[2]) {
    case 'play':
        $play('tag sets', new RedisTagAwareAdapter($connect(), 'ns'));
        $play('tag versions', new TagAwareAdapter(new RedisAdapter($connect(), 'ver'), new RedisAdapter($connect(), 'tag')));
        $redis = $connect();
        $keys = $redis->keys('*');
        sort($keys);
        $say('left', array_map(fn ($key) => [$key, $redis->type($key)], $keys));
        break;
    case 'fill':
        $say('saved', $fill(new RedisTagAwareAdapter($connect(), 'ns')));
        break;
    case 'clean':
        $say('cleaned', (new RedisTagAwareAdapter($connect(), 'ns'))->invalidateTags(array_slice($argv, 3)));
        break;
    case 'there':
        $say('there', $there(new RedisTagAwareAdapter($connect(), 'ns')));
        break;
}
