import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.h2.H2Database;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.backend.memory.MemoryDatabase;
import de.bwaldvogel.mongo.bson.Document;
import java.util.List;
import org.h2.mvstore.MVStore;

/**
 * Backends with indexes that also serve queries with further conditions, as MongoDB's do: the library's own read the
 * whole collection for {name: …, "applied.run.0": {$not: …}}. The server applies all conditions to what they find.
 */
final class Indexed {
    private Indexed() { }

    /** In a file, which outlives the server. */
    static H2Backend inFile(String file) {
        return new H2Backend(file) {
            @Override
            protected MongoDatabase openOrCreateDatabase(String name) {
                return new FileDatabase(name, getMvStore(), getCursorRegistry());
            }
        };
    }

    /** In memory: many times faster, and gone with the server. */
    static MemoryBackend inMemory() {
        return new MemoryBackend() {
            @Override
            public MemoryDatabase openOrCreateDatabase(String name) {
                return new QuickDatabase(name, getCursorRegistry());
            }
        };
    }

    private static final class FileDatabase extends H2Database {
        FileDatabase(String name, MVStore store, CursorRegistry cursors) {
            super(name, store, cursors);
        }

        @Override
        protected Index<Object> openOrCreateUniqueIndex(
                String collection, String index, List<IndexKey> keys, boolean sparse) {
            return new Prefix<>(super.openOrCreateUniqueIndex(collection, index, keys, sparse), sparse);
        }
    }

    private static final class QuickDatabase extends MemoryDatabase {
        QuickDatabase(String name, CursorRegistry cursors) {
            super(name, cursors);
        }

        @Override
        protected Index<Integer> openOrCreateUniqueIndex(
                String collection, String index, List<IndexKey> keys, boolean sparse) {
            return new Prefix<>(super.openOrCreateUniqueIndex(collection, index, keys, sparse), sparse);
        }
    }

    /** Answers with the entries for the part of a query that is about the index's keys. */
    private static final class Prefix<P> extends Index<P> {
        private final Index<P> all;

        Prefix(Index<P> all, boolean sparse) {
            super(all.getName(), all.getKeys(), sparse);
            this.all = all;
        }

        private Document part(Document query) {
            Document part = new Document();
            for (IndexKey key : getKeys()) {
                if (query.containsKey(key.getKey())) {
                    part.put(key.getKey(), query.get(key.getKey()));
                }
            }
            return part;
        }

        @Override
        public boolean canHandle(Document query) {
            return all.canHandle(part(query));
        }

        @Override
        public Iterable<P> getPositions(Document query) {
            return all.getPositions(part(query));
        }

        @Override
        public P getPosition(Document document) {
            return all.getPosition(document);
        }

        @Override
        public void checkAdd(Document document, MongoCollection<P> collection) {
            all.checkAdd(document, collection);
        }

        @Override
        public void add(Document document, P position, MongoCollection<P> collection) {
            all.add(document, position, collection);
        }

        @Override
        public P remove(Document document) {
            return all.remove(document);
        }

        @Override
        public long getCount() {
            return all.getCount();
        }

        @Override
        public long getDataSize() {
            return all.getDataSize();
        }

        @Override
        public void checkUpdate(Document before, Document after, MongoCollection<P> collection) {
            all.checkUpdate(before, after, collection);
        }

        @Override
        public void updateInPlace(
                Document before, Document after, P position, MongoCollection<P> collection) {
            all.updateInPlace(before, after, position, collection);
        }

        @Override
        public boolean isUnique() {
            return all.isUnique();
        }

        @Override
        public void drop() {
            all.drop();
        }
    }
}
