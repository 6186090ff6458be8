// Solves the puzzle of the page, keeps the pass as a cookie, and loads the page again.
(function () {
  var COOKIE = 'parvis_pass', PASSES_MAX = 4, TRIES = 20000, AGAIN_MAX = 5;
  var box = document.getElementById('parvis');
  var status = box.querySelector('[role=status]');
  var progress = box.querySelector('progress');
  var button = box.querySelector('button');
  var puzzle = box.getAttribute('data-puzzle');
  var bits = +box.getAttribute('data-bits');
  var ended = false;

  function says(word) {
    status.textContent = box.getAttribute('data-' + word);
  }

  function offers(word, action) {
    progress.hidden = true;
    button.textContent = box.getAttribute('data-' + word);
    button.onclick = action;
    button.hidden = false;
  }

  function reload() {
    location.reload();
  }

  function passes() {
    var found = document.cookie.match(/(?:^|; )parvis_pass=([^;]*)/);
    return found && found[1] ? found[1].split('~') : [];
  }

  // A pass that is not taken (a clock that is wrong, nodes that do not know each other's) must not reload for ever.
  function comesTooOften() {
    try {
      var before = (sessionStorage.getItem(COOKIE) || '0 0').split(' ');
      var now = Date.now(), times = now - before[1] < 60000 ? +before[0] + 1 : 1;
      sessionStorage.setItem(COOKIE, times + ' ' + now);
      return times > AGAIN_MAX;
    } catch (error) {
      return false;
    }
  }

  function solved(nonce) {
    var pass = puzzle + '.' + nonce;
    ended = true;
    // Those of other networks stay, so that who goes to and fro between two solves a puzzle for each once.
    document.cookie = COOKIE + '=' + [pass].concat(passes()).slice(0, PASSES_MAX).join('~')
      + '; Path=/; Max-Age=' + box.getAttribute('data-seconds') + '; SameSite=Lax'
      + (location.protocol === 'https:' ? '; Secure' : '');
    progress.value = 1;
    if (passes()[0] !== pass) {
      says('cookies');
      offers('again', reload);
    } else if (box.hasAttribute('data-sent')) {
      // A script cannot send a form again in all browsers: Safari would load the page without it.
      says('form');
      offers('back', function () { history.back(); });
    } else if (comesTooOften()) {
      says('stuck');
      offers('again', reload);
    } else {
      says('done');
      reload();
    }
  }

  function tried(count) {
    progress.value = 1 - Math.exp(-count / Math.pow(2, bits));
  }

  // In slices, so that the page does not freeze where there are no workers.
  function solveHere() {
    var tries = miner(puzzle, bits), count = 0;
    (function slice() {
      var nonce = tries(TRIES / 10);
      if (nonce !== null) {
        solved(nonce);
      } else {
        tried(count += TRIES / 10);
        setTimeout(slice, 0);
      }
    })();
  }

  function solveBeside() {
    var code = sha256 + '\n' + miner + '\nonmessage = function (event) {'
      + 'var tries = miner(event.data[0], event.data[1]), count = 0, nonce = null;'
      + 'while (nonce === null) {'
      + 'nonce = tries(' + TRIES + '); count += ' + TRIES + '; postMessage([nonce, count]); } };';
    var worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })));
    worker.onmessage = function (event) {
      if (event.data[0] === null) {
        tried(event.data[1]);
      } else {
        worker.terminate();
        solved(event.data[0]);
      }
    };
    worker.onerror = function () {
      worker.terminate();
      solveHere();
    };
    worker.postMessage([puzzle, bits]);
  }

  progress.hidden = false;
  says('working');
  setTimeout(function () { if (!ended) says('slow'); }, 8000);
  try {
    solveBeside();
  } catch (error) {
    solveHere();
  }
})();
