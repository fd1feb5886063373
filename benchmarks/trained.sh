# To be sourced: trains a source once.

trained() {  # FOLDER FLAGS...: train into the folder, or go on there; what is done stays
    local folder=$1
    shift
    if [ -f "$folder/report.html" ]; then
        return
    elif [ -f "$folder/config.json" ]; then
        python train.py --resume "$folder"
    else
        python train.py --dagger.steps 672000 --env-steps 0 --transfer-steps 0 --episodes 5 \
            --no-videos --width 384 "$@" --out "$folder"
    fi
}
