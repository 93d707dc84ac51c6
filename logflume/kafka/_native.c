/* Records of a Kafka client as whole columns, without a Python object for each.
 *
 * The client stays confluent-kafka's: it makes the connections, joins the group and calls the callbacks. Only the
 * partitions' own queues are led past it, into a queue that is taken from here. All of this is librdkafka's public
 * interface (rdkafka.h: queues, batch consumer, interceptors and plugins); the wheel that brings the library brings
 * no header, so the few declarations stand here. They are part of its stable ABI.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_topic_s rd_kafka_topic_t;
typedef struct {
    int err;
    rd_kafka_topic_t *rkt;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *_private;
} rd_kafka_message_t;
typedef int on_new_t(rd_kafka_t *, const rd_kafka_conf_t *, void *opaque, char *errstr, size_t size);

/* What is used of librdkafka: each name becomes a pointer, which load() fills. */
#define FUNCTIONS(F)                                                                                                   \
    F(int, rd_kafka_conf_interceptor_add_on_new, (rd_kafka_conf_t *, const char *name, on_new_t *, void *opaque))      \
    F(rd_kafka_queue_t *, rd_kafka_queue_new, (rd_kafka_t *))                                                          \
    F(rd_kafka_queue_t *, rd_kafka_queue_get_partition, (rd_kafka_t *, const char *topic, int32_t partition))          \
    F(void, rd_kafka_queue_forward, (rd_kafka_queue_t * from, rd_kafka_queue_t * to))                                  \
    F(void, rd_kafka_queue_destroy, (rd_kafka_queue_t *))                                                              \
    F(ssize_t, rd_kafka_consume_batch_queue, (rd_kafka_queue_t *, int timeout_ms, rd_kafka_message_t **, size_t))      \
    F(const char *, rd_kafka_topic_name, (const rd_kafka_topic_t *))                                                   \
    F(int64_t, rd_kafka_message_timestamp, (const rd_kafka_message_t *, int *type))                                    \
    F(int32_t, rd_kafka_message_leader_epoch, (const rd_kafka_message_t *))                                            \
    F(const char *, rd_kafka_message_errstr, (const rd_kafka_message_t *))                                             \
    F(void, rd_kafka_message_destroy, (rd_kafka_message_t *))
#define POINTER(type, name, parameters) static type(*name) parameters;
FUNCTIONS(POINTER)

static int loaded;

/* librdkafka shows a new client to interceptors only, within the call that makes it, on the thread that makes it. */
static _Thread_local rd_kafka_t *newest;

static int on_new(rd_kafka_t *client, const rd_kafka_conf_t *conf, void *opaque, char *errstr, size_t size) {
    (void)conf, (void)opaque, (void)errstr, (void)size;
    newest = client;
    return 0;
}

/* What librdkafka calls in a library that plugin.library.paths names. */
__attribute__((visibility("default"))) int conf_init(rd_kafka_conf_t *conf, void **opaque, char *errstr, size_t size) {
    (void)opaque;
    newest = NULL;
    if (!loaded) {
        snprintf(errstr, size, "logflume's reader is not loaded");
        return -1;
    }
    return rd_kafka_conf_interceptor_add_on_new(conf, "logflume", on_new, NULL);
}

static PyObject *load(PyObject *module, PyObject *path) {
    (void)module;
    PyObject *name;
    if (!PyUnicode_FSConverter(path, &name))
        return NULL;
    /* NOLOAD: a second copy of the library would not know the client's memory. */
    void *library = dlopen(PyBytes_AS_STRING(name), RTLD_NOW | RTLD_NOLOAD);
    Py_DECREF(name);
    if (!library)
        return PyErr_Format(PyExc_ImportError, "%U is not loaded", path);
#define FIND(type, name, parameters)                                                                                   \
    if (!(*(void **)&name = dlsym(library, #name)))                                                                    \
        return PyErr_Format(PyExc_ImportError, "librdkafka has no " #name);
    FUNCTIONS(FIND)
    loaded = 1;
    Py_RETURN_NONE;
}

typedef struct {
    PyObject_HEAD
    PyObject *client; /* keeps alive what the queue belongs to */
    PyObject *make_batch;
    PyObject *make_joined;
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue; /* NULL once closed */
} Queue;

static PyObject *Queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *client, *make_batch, *make_joined;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOO:Queue", &client, &make_batch, &make_joined))
        return NULL;
    rd_kafka_t *rk = newest;
    newest = NULL;
    if (!rk) {
        PyErr_SetString(PyExc_RuntimeError, "no client was made with this library among plugin.library.paths");
        return NULL;
    }
    Queue *self = (Queue *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->client = Py_NewRef(client);
    self->make_batch = Py_NewRef(make_batch);
    self->make_joined = Py_NewRef(make_joined);
    self->rk = rk;
    self->queue = rd_kafka_queue_new(rk);
    return (PyObject *)self;
}

static PyObject *Queue_close(Queue *self, PyObject *unused) {
    (void)unused;
    if (self->queue)
        rd_kafka_queue_destroy(self->queue);
    self->queue = NULL;
    Py_RETURN_NONE;
}

static void Queue_dealloc(Queue *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(Queue_close(self, NULL));
    Py_XDECREF(self->client);
    Py_XDECREF(self->make_batch);
    Py_XDECREF(self->make_joined);
    type->tp_free(self);
    Py_DECREF(type);
}

static int is_open(Queue *self) {
    if (!self->queue)
        PyErr_SetString(PyExc_RuntimeError, "the queue is closed");
    return self->queue != NULL;
}

static PyObject *Queue_follow(Queue *self, PyObject *args) {
    const char *topic;
    int partition;
    if (!PyArg_ParseTuple(args, "si:follow", &topic, &partition) || !is_open(self))
        return NULL;
    rd_kafka_queue_t *own = rd_kafka_queue_get_partition(self->rk, topic, partition);
    if (!own)
        return PyErr_Format(PyExc_RuntimeError, "the client knows no partition %s/%d", topic, partition);
    rd_kafka_queue_forward(own, self->queue);
    rd_kafka_queue_destroy(own);
    Py_RETURN_NONE;
}

/* One reference of item goes into the list's place, or -1 if there is no item. */
static int put(PyObject *list, Py_ssize_t place, PyObject *item) {
    if (!item)
        return -1;
    PyList_SET_ITEM(list, place, item);
    return 0;
}

static PyObject *bytes_or_none(const void *data, size_t size) {
    return data ? PyBytes_FromStringAndSize(data, (Py_ssize_t)size) : Py_NewRef(Py_None);
}

/* The values of a run: joined, or a list where one is missing or has a newline in it. */
static PyObject *values_of(Queue *self, rd_kafka_message_t **run, Py_ssize_t n) {
    size_t size = (size_t)n - 1, longest = 0;
    int whole = 1, braced = 1;
    for (Py_ssize_t i = 0; i < n; i++) {
        size += run[i]->len;
        if (run[i]->len > longest)
            longest = run[i]->len;
        if (!run[i]->payload)
            whole = 0;
    }
    PyObject *text = whole ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size) : NULL;
    if (whole && !text)
        return NULL;
    char *end = whole ? PyBytes_AS_STRING(text) : NULL;
    for (Py_ssize_t i = 0; whole && i < n; i++) {
        const char *value = run[i]->payload;
        size_t length = run[i]->len;
        if (i)
            *end++ = '\n';
        memcpy(end, value, length);
        if (memchr(end, '\n', length))
            whole = 0;
        if (!length || value[0] != '{' || value[length - 1] != '}')
            braced = 0;
        end += length;
    }
    if (whole) {
        PyObject *made = PyObject_CallFunction(self->make_joined, "OnnO", text, n, (Py_ssize_t)longest,
                                               braced ? Py_True : Py_False);
        Py_DECREF(text);
        return made;
    }
    Py_XDECREF(text);
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++)
        if (put(list, i, bytes_or_none(run[i]->payload, run[i]->len)))
            Py_CLEAR(list);
    return list;
}

/* A range where the offsets have no gap, which is nearly always. */
static PyObject *offsets_of(rd_kafka_message_t **run, Py_ssize_t n) {
    int64_t first = run[0]->offset;
    Py_ssize_t i = 1;
    while (i < n && run[i]->offset == first + i)
        i++;
    if (i == n)
        return PyObject_CallFunction((PyObject *)&PyRange_Type, "LL", (long long)first, (long long)first + n);
    PyObject *list = PyList_New(n);
    for (i = 0; list && i < n; i++)
        if (put(list, i, PyLong_FromLongLong(run[i]->offset)))
            Py_CLEAR(list);
    return list;
}

static PyObject *times_of(rd_kafka_message_t **run, Py_ssize_t n, char *types) {
    PyObject *list = PyList_New(n), *last = NULL;
    int64_t before = 0;
    for (Py_ssize_t i = 0; list && i < n; i++) {
        int type = 0;
        int64_t time = rd_kafka_message_timestamp(run[i], &type);
        types[i] = (char)type;
        /* neighbours often have the same one */
        last = last && time == before ? Py_NewRef(last) : PyLong_FromLongLong(time);
        before = time;
        if (put(list, i, last))
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *keys_of(rd_kafka_message_t **run, Py_ssize_t n) {
    PyObject *list = PyList_New(n);
    for (Py_ssize_t i = 0; list && i < n; i++)
        if (put(list, i, bytes_or_none(run[i]->key, run[i]->key_len)))
            Py_CLEAR(list);
    return list;
}

static PyObject *batch_of(Queue *self, rd_kafka_message_t **run, Py_ssize_t n) {
    PyObject *types = PyBytes_FromStringAndSize(NULL, n);
    PyObject *times = types ? times_of(run, n, PyBytes_AS_STRING(types)) : NULL;
    PyObject *values = times ? values_of(self, run, n) : NULL;
    PyObject *offsets = values ? offsets_of(run, n) : NULL;
    PyObject *keys = offsets ? keys_of(run, n) : NULL;
    PyObject *made = NULL;
    if (keys)
        made = PyObject_CallFunction(self->make_batch, "siOOOLiOO", rd_kafka_topic_name(run[0]->rkt), run[0]->partition,
                                     values, offsets, times, (long long)run[n - 1]->offset + 1,
                                     rd_kafka_message_leader_epoch(run[0]), keys, types);
    Py_XDECREF(types);
    Py_XDECREF(times);
    Py_XDECREF(values);
    Py_XDECREF(offsets);
    Py_XDECREF(keys);
    return made;
}

static PyObject *error_of(rd_kafka_message_t *message) {
    return Py_BuildValue("siLis", message->rkt ? rd_kafka_topic_name(message->rkt) : "", message->partition,
                         (long long)message->offset, message->err, rd_kafka_message_errstr(message));
}

static PyObject *Queue_take(Queue *self, PyObject *args) {
    Py_ssize_t limit;
    int timeout_ms;
    if (!PyArg_ParseTuple(args, "ni:take", &limit, &timeout_ms) || !is_open(self))
        return NULL;
    rd_kafka_message_t **found = PyMem_Calloc(limit > 0 ? (size_t)limit : 1, sizeof *found);
    if (!found)
        return PyErr_NoMemory();
    ssize_t n;
    Py_BEGIN_ALLOW_THREADS
    n = rd_kafka_consume_batch_queue(self->queue, timeout_ms, found, (size_t)limit);
    Py_END_ALLOW_THREADS
    PyObject *items = n < 0 ? PyErr_Format(PyExc_RuntimeError, "librdkafka refuses the queue") : PyList_New(0);
    for (ssize_t i = 0, end; items && i < n; i = end) {
        rd_kafka_message_t *first = found[i];
        int32_t epoch = first->err ? -1 : rd_kafka_message_leader_epoch(first);
        for (end = i + 1; end < n && !first->err && !found[end]->err && found[end]->rkt == first->rkt &&
                          found[end]->partition == first->partition &&
                          rd_kafka_message_leader_epoch(found[end]) == epoch;
             end++)
            ;
        PyObject *item = first->err ? error_of(first) : batch_of(self, found + i, end - i);
        if (!item || PyList_Append(items, item))
            Py_CLEAR(items);
        Py_XDECREF(item);
    }
    Py_BEGIN_ALLOW_THREADS
    for (ssize_t i = 0; i < n; i++)
        rd_kafka_message_destroy(found[i]);
    Py_END_ALLOW_THREADS
    PyMem_Free(found);
    return items;
}

static PyMethodDef queue_methods[] = {
    {"follow", (PyCFunction)Queue_follow, METH_VARARGS, NULL},
    {"take", (PyCFunction)Queue_take, METH_VARARGS, NULL},
    {"close", (PyCFunction)Queue_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyType_Slot queue_slots[] = {
    {Py_tp_new, Queue_new},
    {Py_tp_dealloc, Queue_dealloc},
    {Py_tp_methods, queue_methods},
    {0, NULL},
};
static PyType_Spec queue_spec = {"logflume.kafka._native.Queue", sizeof(Queue), 0, Py_TPFLAGS_DEFAULT, queue_slots};

static PyMethodDef functions[] = {{"load", load, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "logflume.kafka._native", NULL, -1, functions,
                                    NULL,                  NULL,                     NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) {
    PyObject *made = PyModule_Create(&module);
    PyObject *queue = made ? PyType_FromSpec(&queue_spec) : NULL;
    if (!queue || PyModule_AddObjectRef(made, "Queue", queue)) {
        Py_XDECREF(queue);
        Py_XDECREF(made);
        return NULL;
    }
    Py_DECREF(queue);
    return made;
}
