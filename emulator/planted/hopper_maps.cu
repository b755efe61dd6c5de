// Maps on Hopper with one mistake each: the kernel's own source, over parts of it of which some do something else in
// the kernel of that name.
#include "attention/hopper_products.cuh"
#include "attention/hopper_ring.cuh"
#include "attention/logits.cuh"

// Whether this is the kernel that makes the mistake.
static bool makes(const char* mistake) {
    return strcmp(emulator::engine().kernel + strlen("maps_"), mistake) == 0;
}

// The ring of the queries, or that of the keys, whose tiles have fewer rows.
template <class Tile, int STAGES>
struct PlantedRing : TileRing<Tile, STAGES> {
    using Right = TileRing<Tile, STAGES>;
    static constexpr bool QUERIES = Tile::CHUNK == HOPPER_CONSUMERS * HOPPER_ROWS * Tile::COLUMNS;

    Tile await(const RingPlace<STAGES>& place) const {
        if (makes(QUERIES ? "uses_queries_before_arrival" : "uses_keys_before_arrival")) {
            return this->at(place.stage);
        }
        const Tile tile = Right::await(place);
        if (releases_early() && threadIdx.x % 32 == 0) barrier_arrive(&this->empty[place.stage]);
        return tile;
    }
    void release(RingPlace<STAGES>& place) const {
        if (releases_early() || makes(QUERIES ? "keeps_queries" : "keeps_keys")) {
            place.advance();
        } else {
            Right::release(place);
        }
    }

private:
    // Of keys: at each of the heads that share them.
    static bool releases_early() {
        return makes(QUERIES ? "releases_queries_early" : "releases_keys_at_every_head");
    }
};

template <int groups_left, int N>
static void await_products(float (&d)[N][4]) {
    if (!makes("reads_scores_early")) wgmma_wait<groups_left>(d);
}

// A window's first key is hidden, or each query's own.
struct NarrowMask : Mask {
    using Mask::Mask;
    int first(int query) const { return Mask::first(query) + makes("hides_first_keys"); }
    bool chose(int query, int key) const {
        return Mask::chose(query, key) && !(query == key && makes("hides_own_keys"));
    }
};
// A block whose last key is the first one that its first query sees is left out.
struct HastyMask : Mask {
    using Mask::Mask;
    int first(int query) const { return Mask::first(query) + makes("leaves_out_blocks"); }
};
#define Mask NarrowMask
#include "attention/map_tile.cuh"
#undef Mask

// Probabilities by the denominators of another head.
template <class T, int N>
struct PlantedTile : MapTile<T, N> {
    using MapTile<T, N>::MapTile;
    void load_log_sums(float (&log_sums)[2], int head) const {
        MapTile<T, N>::load_log_sums(log_sums, makes("weighs_by_the_first_head") ? 0 : head);
    }
};

#define TileRing PlantedRing
#define wgmma_wait await_products
#define Mask HastyMask
#define MapTile PlantedTile
#include "attention/hopper_maps.cuh"

#define PLANTED(mistake)                                                            \
    KERNEL_BOUNDED(HOPPER_THREADS)                                                  \
        maps_##mistake(const __grid_constant__ AttentionMapHopperArguments args) {  \
        attention_maps_on_hopper<__nv_bfloat16, 64, 96, 4>(args);                   \
    }                                                                               \
    REGISTER(maps_##mistake)
PLANTED(faultless)
PLANTED(uses_queries_before_arrival)
PLANTED(uses_keys_before_arrival)
PLANTED(releases_queries_early)
PLANTED(releases_keys_at_every_head)
PLANTED(keeps_queries)
PLANTED(keeps_keys)
PLANTED(reads_scores_early)
PLANTED(hides_first_keys)
PLANTED(hides_own_keys)
PLANTED(leaves_out_blocks)
PLANTED(weighs_by_the_first_head)
