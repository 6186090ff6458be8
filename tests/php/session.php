<?php
declare(strict_types=1);

// One request to a shop: it opens the session of the cookie, works while it holds the lock, and closes it. What it
// is to do is said by the query string; on the command line, and for what holds for a whole pool, by the environment
// as SESSION_NAME. It answers with JSON.
//
//   store       unix:/path or host:port
//   id          session id where no cookie is sent (on the command line)
//   hold        milliseconds of work with the lock held
//   after       milliseconds of work after the session was closed early
//   set         a value to keep in the session; `data` a file whose content becomes the session (as session_encode writes it)
//   read_only   1: no lock, nothing written
//   destroy     1: ends the session; `regenerate` 1: a new id, the old session is destroyed
//   die         1: the worker is killed while it holds the lock
//   cacheable   seconds: the page says that it may be shared for so long, as the shop's pages do
//   persistent  1: phpredis' connection outlives the request
//   times       on the command line: so many requests, one after another
//   pid, req, break_after, fail_after, max_concurrency, lifetime, database, prefix: as Magento's settings and what the handler says of itself
//   auth        password of the store; `serializer` php or php_serialize; `strict` 1: session.use_strict_mode

/** Too many requests of one session wait for its lock already. */
final class TooManyWait extends RuntimeException {}

/**
 * A session handler that sends what Magento's (php-redis-session-abstract) was recorded to send, byte for byte
 * (tests/integration/sessions/handler.rs compares): a hash for each session with the fields data, lock, pid, wait, writes and req.
 *
 * The lock is HINCRBY lock 1 giving 1. Who does not get it adds itself to `wait` once and tries each half second. One that
 * finds max_concurrency waiting leaves; from break_after on it looks who holds the lock, and takes it where
 * that is the same one as a try before; fail_after later it goes on without the lock, and then writes nothing.
 */
class SessionHandlerLikeMagentos implements SessionHandlerInterface
{
    private const PAUSE = 0.5;

    /** What happened, for the tests: tries, how long the lock took (in milliseconds), whether it is held, was broken. */
    public int $tries = 0;
    public float $waited = 0.0;
    public bool $locked = false;
    public bool $broke = false;

    private int $writes = 0;
    private bool $bot;

    /** @param array{database?: int, break_after?: float, fail_after?: float, max_concurrency?: int, lifetime?: int,
     *               read_only?: bool, prefix?: string, pid?: string, req?: string, agent?: string} $with */
    public function __construct(private Redis $redis, private array $with = [])
    {
        $this->with += [
            'database' => 2, 'break_after' => 5.0, 'fail_after' => 15.0, 'max_concurrency' => 6, 'lifetime' => 3600,
            'read_only' => false, 'prefix' => 'sess_', 'pid' => gethostname() . '|' . getmypid(), 'req' => '', 'agent' => '',
        ];
        $this->bot = preg_match('/bot|crawl|spider/i', $this->with['agent']) === 1;
    }

    public function open(string $path, string $name): bool
    {
        return true;
    }

    public function read(string $id): string
    {
        $key = $this->with['prefix'] . $id;
        $this->redis->select($this->with['database']);
        $begun = microtime(true);
        $counted = $this->with['read_only'] ? false : $this->lock($key);
        $this->waited = 1000 * (microtime(true) - $begun);

        $fields = $this->redis->hMGet($key, ['data', 'writes']);
        $this->writes = (int) $fields['writes'];
        if ($counted) {
            $this->redis->hIncrBy($key, 'wait', -1);
        }
        if ($this->broke) {
            $this->redis->hGet($key, 'req');
        }
        if ($this->locked) {
            $this->redis->pipeline()
                ->hMSet($key, ['pid' => $this->with['pid'], 'lock' => '1', 'req' => $this->with['req']])
                ->expire($key, 21600)
                ->exec();
        }
        return is_string($fields['data']) ? self::unpack($fields['data']) : '';
    }

    /** Takes the lock, or goes on without it after the longest wait. Says whether it counted itself among those who wait. */
    private function lock(string $key): bool
    {
        $last = (int) ceil(($this->with['break_after'] + $this->with['fail_after']) / self::PAUSE);
        $look = (int) ceil($this->with['break_after'] / self::PAUSE);
        $waiting = 0;
        $holder = null;
        for ($this->tries = 1; ; $this->tries++) {
            if ($this->redis->hIncrBy($key, 'lock', 1) === 1) {
                $this->locked = true;
                return $waiting > 0;
            }
            if ($this->tries === 1) {
                $waiting = $this->redis->hIncrBy($key, 'wait', 1);
            } elseif ($waiting >= $this->with['max_concurrency']) {
                $this->redis->hIncrBy($key, 'wait', -1);
                throw new TooManyWait();
            }
            if ($this->tries >= $last) {
                return true;
            }
            if ($this->tries >= $look) {
                $now = $this->redis->hGet($key, 'pid');
                if ($holder !== null && $now === $holder) {
                    $this->locked = $this->broke = true;
                    return true;
                }
                $holder = $now;
            }
            usleep((int) (1000000 * self::PAUSE));
        }
    }

    public function write(string $id, string $data): bool
    {
        if (!$this->locked) {
            return true;
        }
        $key = $this->with['prefix'] . $id;
        $this->redis->select($this->with['database']);
        // Another may have broken the lock meanwhile.
        if ($this->redis->hGet($key, 'pid') === $this->with['pid']) {
            $pipeline = $this->redis->pipeline();
            $pipeline->select($this->with['database']);
            $pipeline->hMSet($key, ['data' => $data, 'lock' => '0'])->hIncrBy($key, 'writes', 1)->expire($key, $this->lifetime());
            $replies = $pipeline->exec();
            if (!is_array($replies) || in_array(false, array_slice($replies, 0, 3), true)) {
                return false;
            }
        }
        $this->locked = false;
        return true;
    }

    public function destroy(string $id): bool
    {
        $this->redis->pipeline()->select($this->with['database'])->unlink($this->with['prefix'] . $id)->exec();
        $this->locked = false;
        return true;
    }

    public function close(): bool
    {
        return true;
    }

    public function gc(int $lifetime): int|false
    {
        return 0;
    }

    /** The first two writes make a session that lives for a short while. */
    private function lifetime(): int
    {
        $first = $this->bot ? 60 : 600;
        if ($this->writes <= 1) {
            return $first * (1 + $this->writes);
        }
        return $this->bot ? min(7200, $this->with['lifetime']) : $this->with['lifetime'];
    }

    /** Of the compressed forms only what PHP itself can read. */
    private static function unpack(string $data): string
    {
        return str_starts_with($data, ':gz:') ? (string) gzuncompress(substr($data, 4)) : $data;
    }
}

function knob(string $name, string $else = ''): string
{
    $value = $_GET[$name] ?? getenv('SESSION_' . strtoupper($name));
    return is_string($value) && $value !== '' ? $value : $else;
}

function connection(): Redis
{
    $redis = new Redis();
    $store = knob('store');
    $connect = knob('persistent') === '1' ? 'pconnect' : 'connect';
    if (str_starts_with($store, 'unix:')) {
        $redis->$connect(substr($store, 5));
    } else {
        [$host, $port] = explode(':', $store);
        $redis->$connect($host, (int) $port, 5.0);
    }
    if (knob('auth') !== '') {
        $redis->auth(knob('auth'));
    }
    return $redis;
}

function handler(): SessionHandlerLikeMagentos
{
    $path = (string) parse_url($_SERVER['REQUEST_URI'] ?? '/', PHP_URL_PATH);
    return new SessionHandlerLikeMagentos(connection(), [
        'req' => knob('req', ($_SERVER['REQUEST_METHOD'] ?? 'GET') . ' ' . ($_SERVER['HTTP_HOST'] ?? 'shop.test') . $path),
        'agent' => $_SERVER['HTTP_USER_AGENT'] ?? knob('agent'),
        'pid' => knob('pid', gethostname() . '|' . getmypid()),
        'read_only' => knob('read_only') === '1',
        'break_after' => (float) knob('break_after', '5'),
        'fail_after' => (float) knob('fail_after', '15'),
        'max_concurrency' => (int) knob('max_concurrency', '6'),
        'lifetime' => (int) knob('lifetime', '3600'),
        'database' => (int) knob('database', '2'),
        'prefix' => knob('prefix', 'sess_'),
    ]);
}

/** @return array<string, mixed> */
function visit(SessionHandlerLikeMagentos $handler): array
{
    session_set_save_handler($handler, false);
    session_start();
    if (PHP_SAPI !== 'cli') {
        // As Magento, which renews the cookie with each response.
        setcookie(session_name(), session_id(), ['path' => '/', 'httponly' => true]);
    }
    $before = $_SESSION;
    if (knob('data') !== '' && knob('destroy') !== '1') {
        $_SESSION = [];
        session_decode((string) file_get_contents(knob('data')));
    } else {
        $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
    }
    if (knob('set') !== '') {
        $_SESSION['kept'] = knob('set');
    }
    usleep(1000 * (int) knob('hold', '0'));
    if (knob('die') === '1') {
        posix_kill(getmypid(), 9); // SIGKILL, a name that PHP-FPM does not know
    }
    $found = [
        'locked' => $handler->locked, 'tries' => $handler->tries, 'waited_ms' => round($handler->waited, 3), 'broke' => $handler->broke,
        'before' => $before['visits'] ?? 0, 'kept' => $before['kept'] ?? null, 'pid' => knob('pid', gethostname() . '|' . getmypid()),
    ];
    if (knob('regenerate') === '1') {
        session_regenerate_id(true);
    }
    if (knob('destroy') === '1') {
        session_destroy();
        return $found + ['id' => '', 'visits' => 0];
    }
    $found += ['id' => session_id(), 'visits' => $_SESSION['visits'] ?? 0, 'written' => session_write_close()];
    usleep(1000 * (int) knob('after', '0'));
    return $found;
}

// A script that has required this one wants the handler alone (tests/load/php).
if (count(get_included_files()) > 1) {
    return;
}
ini_set('session.serialize_handler', knob('serializer', 'php'));
$web = PHP_SAPI !== 'cli';
ini_set('session.use_strict_mode', knob('strict', '0'));
ini_set('session.cache_limiter', '');
ini_set('session.use_cookies', $web ? '1' : '0');
$status = 200;
$answers = '';
for ($left = $web ? 1 : (int) knob('times', '1'); $left > 0; $left--) {
    if (knob('id') !== '') {
        session_id(knob('id'));
    }
    try {
        $answer = visit(handler());
    } catch (TooManyWait) {
        [$status, $answer] = [503, ['error' => 'too many wait']];
    } catch (RedisException $problem) {
        [$status, $answer] = [500, ['error' => $problem->getMessage()]];
    }
    if ($web) {
        header_remove('X-Powered-By');
        http_response_code($status);
        if (knob('cacheable') !== '' && $status === 200) {
            header('Cache-Control: public, max-age=' . knob('cacheable') . ', s-maxage=' . knob('cacheable'));
            header('X-Magento-Tags: cat_p_1,store');
        } else {
            header('Cache-Control: no-store, no-cache, must-revalidate, max-age=0');
        }
        header('Content-Type: application/json');
    }
    $answers .= json_encode($answer + ['cookie' => $_COOKIE[session_name()] ?? null]) . "\n";
}
echo $answers;
