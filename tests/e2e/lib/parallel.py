"""Many calls at once, from threads that start together."""
import threading


def start(count, function):
    """Runs function(i) for i < count, each in a thread of its own.  Returns a handle for finish()."""
    gate = threading.Barrier(count)
    results = [None] * count

    def run(i):
        try:
            gate.wait(60)
            results[i] = function(i)
        except BaseException as error:  # handed to the test, whatever it is
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def finish(handle, seconds=60):
    """The results in order; an exception stands where a function raised one."""
    threads, results = handle
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), f"a call did not end within {seconds} s"
    return results


def run(count, function, seconds=60):
    results = finish(start(count, function), seconds)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
