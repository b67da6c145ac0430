package suite;

import java.time.Duration;
import java.util.function.Predicate;
import org.junit.jupiter.api.Assertions;

/** Waiting for a condition, with a time-out that only a broken broker reaches. */
final class Await {
    static final Duration PATIENCE = Duration.ofSeconds(60);

    private Await() {}

    interface Condition {
        boolean holds() throws Exception;
    }

    interface Value<T> {
        T get() throws Exception;
    }

    /** Asks again until it holds. What the asking throws counts as "not yet", and is told at the end. */
    static void until(String what, Condition condition) {
        until(what, condition::holds, Boolean::booleanValue);
    }

    /** Asks again until the value is as wished, and returns it. */
    static <T> T until(String what, Value<T> value, Predicate<T> wished) {
        long end = System.nanoTime() + PATIENCE.toNanos();
        Object last = null;
        while (System.nanoTime() < end) {
            try {
                T current = value.get();
                if (wished.test(current)) {
                    return current;
                }
                last = current;
            } catch (Exception failure) {
                last = failure;
            }
            pause();
        }
        return Assertions.fail("waited " + PATIENCE.toSeconds() + " s until " + what + "; the last was: " + last);
    }

    private static void pause() {
        try {
            Thread.sleep(50);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            Assertions.fail("interrupted while waiting");
        }
    }
}
